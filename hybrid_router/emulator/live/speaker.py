"""aura: text comes, sound goes."""

from __future__ import annotations

from typing import Any

from hybrid_router.api.workers_ai.form import Given
from hybrid_router.api.workers_ai.forms.speech import SpeechBytes
from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core.call import Call
from hybrid_router.core.event import Sound
from hybrid_router.emulator import work
from hybrid_router.emulator.live.line import Line, Part, read, sender, unknown

_MOST_CHARACTERS = 2000


class Speaker(Part):
    """aura: `Speak` collects text, `Flush` says it."""

    def __init__(self, line: Line, model: Model, options: dict[str, str]) -> None:
        super().__init__(line, model, {"encoding": "linear16", "container": "none", **options})
        self._texts: list[str] = []
        self._flushes_count = 0
        line.account.schemas.check_form(model, {"text": "-", **self._options})
        self._call("-")

    async def told(self, message: dict[str, Any]) -> None:
        """See `Part`."""
        match message:
            case {"type": "Speak", "text": str(text)}:
                self._texts.append(text)
                if sum(map(len, self._texts)) > _MOST_CHARACTERS:
                    raise Refusal(5006, f"Bad input: Error: more than {_MOST_CHARACTERS} characters unspoken")
            case {"type": "Flush"}:
                await self._flush()
            case {"type": "Clear"}:
                self._texts.clear()
                await self._line.tell({"type": "Cleared", "sequence_id": self._flushes_count})
            case {"type": "Close"}:
                await self._flush()
                await self._line.close()
            case _:
                raise unknown(message)

    async def _flush(self) -> None:
        text = "".join(self._texts)
        self._texts.clear()
        if text.strip():
            call = self._call(text)
            events = await self._line.events(call)
            self._line.charge(work.work_of(call, events))
            for event in events:
                if isinstance(event, Sound):
                    await self._line.sound(event.content)
        await self._line.tell({"type": "Flushed", "sequence_id": self._flushes_count})
        self._flushes_count += 1

    def _call(self, text: str) -> Call:
        body = {"text": text} | {
            name: value
            for name, value in self._options.items()
            if name in ("speaker", "encoding", "container")
        }
        given = Given(model=self._model.id, body=body)
        return read(lambda: SpeechBytes().call(given, **sender()))
