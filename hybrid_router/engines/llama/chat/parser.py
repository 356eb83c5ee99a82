"""Reading what a model says: reasoning first, then text and tool calls.  See `seams.Parser`."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid_router.core.event import Event, FinishReason, Text
from hybrid_router.engines.llama.chat.calls import Calls
from hybrid_router.engines.llama.chat.formats import Format, Thought
from hybrid_router.engines.llama.chat.reader import Sink, Speech
from hybrid_router.engines.llama.chat.source import Markers, Reading, Source
from hybrid_router.engines.llama.chat.tools import Tools


@dataclass(frozen=True)
class Manner:
    """How an answer is read.

    Attributes:
        format: how calls are written.
        tools: which there are; none: no calls are looked for.
        thought: what stands around reasoning; None: there is none.
        thinks: the prompt has begun the reasoning already.
        primed: the end of the prompt, where it belongs to what the answer begins with.
        begun: the prompt, or the opening, has come to the text already.
    """

    format: Format
    tools: Tools
    thought: Thought | None = None
    thinks: bool = False
    primed: str = ""
    begun: bool = False


class ChatParser:
    """Reads one choice.

    Attributes:
        thinking: the text is inside the reasoning now.
        over: the answer holds what it may hold: nothing that follows is shown, so it may as well end.
    """

    def __init__(self, index: int, manner: Manner, opening: str = "") -> None:
        """`opening`: how the answer begins; the client has it already."""
        self._manner = manner
        self._source = Source()
        self._sink = Sink(index, manner.tools, self._source)
        self._trying = False  # what was read may have to be read again
        self._calling = False  # behind what begins a call
        self.thinking = manner.thinks
        self.over = False
        self._reading = self._answer(resumed=manner.begun)
        next(self._reading, None)
        self._open(opening)

    @property
    def closing(self) -> str:
        """What ends the reasoning, for a model that is to come to the point."""
        return self._manner.thought.end if self._manner.thought else ""

    def feed(self, text: str) -> list[Event]:
        """Take more text; what it shows."""
        if not self._trying:
            self._source.forget()
        self._source.push(text)
        next(self._reading, None)
        return self._sink.gathered()

    def flush(self, reason: FinishReason) -> list[Event]:
        """What was held back, now that nothing more comes.

        Of a call that the limit cut before its name was known nothing is shown: it is no text.
        """
        forced = self._manner.tools.choice == "required" and not self.thinking
        cut = reason == "length" and (self._calling or forced)
        self._source.over = True
        next(self._reading, None)
        events = self._sink.gathered()
        return [event for event in events if not isinstance(event, Text)] if cut else events

    def reason(self, reason: FinishReason) -> FinishReason:
        """Why the answer ended, in the client's words: `tool_calls` for a `stop` after calls."""
        return "tool_calls" if reason == "stop" and self._sink.calls_count else reason

    def _open(self, opening: str) -> None:
        """Read what is out already: it is not shown again, be it held back or not."""
        if self._manner.primed:
            self.feed(self._manner.primed)
        if opening:
            shown = self.feed(opening)
            self._sink.unseen_count = len(opening) - sum(len(getattr(event, "text", "")) for event in shown)

    def _answer(self, *, resumed: bool) -> Reading[None]:
        thought = False if resumed else (yield from self._reasoning())
        speech = Speech(self._sink.text, trimmed=thought)
        yield from self._begun(speech)
        form = self._manner.format
        looked_for = form.openers if self._manner.tools or self._manner.primed else ()
        markers = Markers((*looked_for, *form.silent))
        while not self.over and (found := (yield from self._source.until(markers, speech.say))) is not None:
            if found in form.silent:
                speech.trim()
            elif not (yield from self._calls(found, speech)):
                speech.say(found)
        yield from self._rest(speech)

    def _rest(self, speech: Speech) -> Reading[None]:
        """The end; or nobody listens any more."""
        if not self.over:
            speech.end()
        while True:
            self._source.advance(len(self._source.rest))
            yield

    def _reasoning(self) -> Reading[bool]:
        """Read the reasoning, if there is any.  Returns whether there was."""
        thought = self._manner.thought
        if thought is None:
            return False
        if not self.thinking:
            mark, self._trying = self._source.mark, True
            yield from self._source.space()
            self.thinking = (yield from self._source.found(thought.begin)) is not None
            if not self.thinking:
                self._source.rewind(mark)
            self._trying = False
        if not self.thinking:
            return False
        speech = Speech(self._sink.reasoning, trimmed=True)
        yield from self._source.until(Markers((thought.end,)), speech.say)
        self.thinking = False
        return True

    def _begun(self, speech: Speech) -> Reading[None]:
        """Calls that the answer begins with, without a marker."""
        if self._manner.format.bare is None or not self._manner.tools:
            return
        self._trying, mark = True, self._source.mark
        yield from self._source.space()
        if self._source.rest.startswith("{") and (yield from self._read(self._manner.format.bare)):
            speech.trim()
            self.over = self._sink.satisfied
        else:
            self._source.rewind(mark)
        self._trying = False

    def _calls(self, marker: str, speech: Speech) -> Reading[bool]:
        """Read what a marker begins.  Returns whether it was calls; if not, the place is behind it."""
        self._trying, mark = True, self._source.mark
        self._calling = True
        called = yield from self._read(self._manner.format.openers[marker])
        self._trying = self._calling = False
        if called:
            speech.trim()
            self.over = self._sink.satisfied
        else:
            self._source.rewind(mark)
        return called

    def _read(self, calls: Calls) -> Reading[bool]:
        return (yield from calls.read(self._source, self._sink))
