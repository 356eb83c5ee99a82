"""What a voice is to its engine, and how its network is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from hybrid_router.engines.settings import VoiceSettings
from hybrid_router.engines.sound.encode import Floats
from hybrid_router.engines.task import EngineFailed

RATE_HZ = 24_000
_ERRORS_ONLY = 3
_UNUSABLE = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
    OSError,
)


class Voice(Protocol):
    """Somebody who can say phonemes of English.

    Attributes:
        name: what calls name it by.
        british: whether it is read to by British rules.
        most_phonemes: of one piece.
        paces: the slowest and the fastest that it can speak by itself; 1.0 is its own pace.
    """

    name: str
    british: bool
    most_phonemes: int
    paces: tuple[float, float]

    def say(self, phonemes: str, pace: float) -> Floats:
        """Speech at `RATE_HZ`, mono, -1 to 1."""
        ...


def session(path: Path, settings: VoiceSettings) -> onnxruntime.InferenceSession:
    """A network, on this many threads.

    Raises:
        EngineFailed: it is none.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.busy_wait)))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _UNUSABLE as error:
        raise EngineFailed(f"{path.name} is no ONNX model that can be used: {_first_line(error)}") from error


def inputs(network: onnxruntime.InferenceSession) -> dict[str, str]:
    """Names and types of what it is given."""
    return {one.name: one.type for one in network.get_inputs()}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
