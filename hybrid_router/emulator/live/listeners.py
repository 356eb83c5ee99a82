"""flux, nova-3 and smart-turn: sound comes, words and verdicts go."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import msgspec

from hybrid_router.api.transcript import Transcript
from hybrid_router.api.workers_ai.form import Given
from hybrid_router.api.workers_ai.forms.sound import SoundNova, Turn, folded
from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.catalogue import prices
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core.upload import upload_of
from hybrid_router.emulator import work
from hybrid_router.emulator.live.line import Line, Part, read, sender, unknown
from hybrid_router.emulator.live.turns import TurnEvent, Turns

_RATES = range(8_000, 48_001)
_USUAL_RATE = "16000"
_SURE, _UNSURE = 0.9, 0.1


class _Listener(Part):
    """Samples of 16 bits come, and what was said goes out turn by turn."""

    def __init__(self, line: Line, model: Model, options: dict[str, str]) -> None:
        super().__init__(line, model, options)
        if options.get("encoding", "linear16") != "linear16":
            raise Refusal(5006, "Bad input: Error: value at '/encoding' is not one of ['linear16']")
        rate = options.get("sample_rate", _USUAL_RATE)
        if not rate.isascii() or not rate.isdecimal() or int(rate) not in _RATES:
            raise Refusal(5006, "Bad input: Error: '/sample_rate' is 8000 to 48000 samples a second")
        self._rate = int(rate)
        self._turns = Turns(self._rate, eager="eager_eot_threshold" in options)

    async def heard(self, frame: bytes) -> None:
        """See `Part`."""
        self._line.charge(prices.Work(sound_s=len(frame) / (2 * self._rate)))
        event = self._turns.take(frame)
        if event is not None:
            await self._say(event)

    async def _end(self) -> None:
        """Say what is unsaid of the running turn."""
        if self._turns.running:
            await self._say("EndOfTurn")

    async def _say(self, event: TurnEvent) -> None:
        heard = await self._transcribed()
        await self._line.tell(self._message(event, heard))
        if event == "EndOfTurn":
            self._turns.close()

    def _message(self, event: TurnEvent, heard: Transcript) -> dict[str, Any]:
        raise NotImplementedError

    async def _transcribed(self) -> Transcript:
        content = upload_of(_wav(bytes(self._turns.samples), self._rate), media_type="audio/wav")
        query = {name: value for name, value in self._options.items() if name == "language"}
        given = Given(model=self._model.id, content=content, query=query)
        call = SoundNova().call(given, **sender())
        return folded(await self._line.events(call))


class TurnListener(_Listener):
    """flux: every change of a turn is told, with what was heard of it."""

    def __init__(self, line: Line, model: Model, options: dict[str, str]) -> None:
        line.account.schemas.check(model, options)
        super().__init__(line, model, options)
        self._sequence = 0

    async def told(self, message: dict[str, Any]) -> None:
        """See `Part`."""
        if message.get("type") != "CloseStream":
            raise unknown(message)
        await self._end()
        await self._line.close()

    def _message(self, event: TurnEvent, heard: Transcript) -> dict[str, Any]:
        self._sequence += 1
        return {
            "request_id": self._line.request_id,
            "sequence_id": self._sequence - 1,
            "event": event,
            "turn_index": self._turns.index,
            "audio_window_start": self._turns.began_s,
            "audio_window_end": self._turns.heard_s,
            "transcript": heard.text,
            "words": [{"word": word.text.strip(), "confidence": word.probability} for word in heard.words],
            "end_of_turn_confidence": _SURE if event in ("EndOfTurn", "EagerEndOfTurn") else _UNSURE,
        }


class ResultListener(_Listener):
    """nova-3: results, the last of each turn final."""

    async def told(self, message: dict[str, Any]) -> None:
        """See `Part`."""
        match message.get("type"):
            case "KeepAlive":
                pass
            case "Finalize":
                await self._end()
            case "CloseStream":
                await self._end()
                told = {"type": "Metadata", "request_id": self._line.request_id, "channels": 1}
                await self._line.tell(told | {"duration": self._turns.heard_s})
                await self._line.close()
            case _:
                raise unknown(message)

    def _message(self, event: TurnEvent, heard: Transcript) -> dict[str, Any]:
        began_s = self._turns.began_s
        words = [
            {
                "word": word.text.strip(),
                "start": began_s + word.start_s,
                "end": began_s + word.end_s,
                "confidence": word.probability,
            }
            for word in heard.words
        ]
        alternative = {"transcript": heard.text, "confidence": heard.heard.probability, "words": words}
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": began_s,
            "duration": self._turns.heard_s - began_s,
            "is_final": event == "EndOfTurn",
            "speech_final": event == "EndOfTurn",
            "channel": {"alternatives": [alternative]},
            "metadata": {"request_id": self._line.request_id},
        }


class Judge(Part):
    """smart-turn: every message of bytes is a recording, and gets its verdict."""

    async def heard(self, frame: bytes) -> None:
        """See `Part`."""
        body = {"audio": base64.b64encode(frame).decode(), **self._options}
        self._line.account.schemas.check(self._model, body)
        given = Given(model=self._model.id, body=body)
        call = read(lambda: Turn().call(given, **sender()))
        events = await self._line.events(call)
        self._line.charge(work.work_of(call, events))
        told = msgspec.json.decode(Turn().reply(given, call, events).content)
        await self._line.tell(told["result"])


def _wav(samples: bytes, rate: int) -> bytes:
    """Samples as a file, whole ones alone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples[: len(samples) // 2 * 2])
    return file.getvalue()
