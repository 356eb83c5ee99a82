"""Harmony, the channels of gpt-oss: every message has a header that says whom it is for.

`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`; calls are messages
`to=functions.NAME` in the commentary channel, and end with `<|call|>`.

Source: OpenAI, "OpenAI harmony response format".
"""

from __future__ import annotations

import re

from hybrid_router.engines.llama.chat.calls import close, read_arguments
from hybrid_router.engines.llama.chat.parser import ChatParser
from hybrid_router.engines.llama.chat.reader import Speech
from hybrid_router.engines.llama.chat.source import Markers, Reading

FINAL = "<|channel|>final<|message|>"
CLOSING = f"<|end|><|start|>assistant{FINAL}"
_HEADER_LIMIT_CHARS = 400
_HEADS = ("<|start|>", "assistant", "<|channel|>", "to=", "<|message|>", "<|constrain|>")
_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>")
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


class HarmonyParser(ChatParser):
    """Reads one choice of a model that writes in channels."""

    @property
    def closing(self) -> str:
        """What ends the analysis and begins the answer."""
        return CLOSING

    def _answer(self, *, resumed: bool) -> Reading[None]:
        speech = Speech(self._sink.text, trimmed=False)
        if resumed:
            yield from self._source.until(Markers(_ENDS), speech.say)
        while not self.over:
            self._source.forget()
            if not self._source.rest:
                if self._source.over:
                    break
                yield
                continue
            yield from self._message(speech)
        yield from self._rest(speech)

    def _message(self, speech: Speech) -> Reading[None]:
        self._trying, mark = True, self._source.mark
        header = yield from self._header()
        if header is None or "to=" in header:
            called = header is not None and (yield from self._call(header))
            self._trying = self._calling = False
            if called:
                return
            self._source.rewind(mark)
            yield from self._words(speech)
            return
        self._trying = self._calling = False
        channel = _CHANNEL.search(header)
        if channel is not None and channel.group(1) == "analysis":
            yield from self._analysis()
        else:
            if speech.begun:
                speech.say("\n\n")
            yield from self._source.until(Markers(_ENDS), speech.say)

    def _header(self) -> Reading[str | None]:
        """Up to the message itself; None: this is no header."""
        yield from self._source.space()
        mark = self._source.mark
        if (yield from self._source.found(*_HEADS)) is None:
            return None
        self._source.rewind(mark)
        self._calling = True
        return (yield from self._source.word(("<|message|>",), _HEADER_LIMIT_CHARS))

    def _call(self, header: str) -> Reading[bool]:
        recipient = _RECIPIENT.search(header)
        if recipient is None or not self._sink.knows(recipient.group(1)):
            return False
        called = yield from read_arguments(self._source, self._sink, recipient.group(1), _ENDS)
        if called:
            yield from close(self._source, _ENDS)
            self.over = self._sink.satisfied
        return called

    def _analysis(self) -> Reading[None]:
        self.thinking = True
        speech = Speech(self._sink.reasoning, trimmed=True)
        yield from self._source.until(Markers(_ENDS), speech.say)
        self.thinking = False

    def _words(self, speech: Speech) -> Reading[None]:
        """What only looked like a message, as it is written, to where the next may begin."""
        if (yield from self._source.found("<|start|>")) is not None:
            speech.say("<|start|>")
        found = yield from self._source.until(Markers(_ENDS), speech.say)
        if found is not None and found != "<|start|>":
            speech.say(found)
