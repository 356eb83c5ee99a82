"""Translation by CTranslate2: m2m100, NLLB, OPUS."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path

import ctranslate2
from msgspec import Struct

from hybrid_router.core.asks import Translation
from hybrid_router.core.event import Batch, Event, Label, Text, Usage
from hybrid_router.engines.settings import TranslatorSettings
from hybrid_router.engines.task import EngineFailed, Opened, Task, TaskRefused
from hybrid_router.engines.translate.detect import Detector
from hybrid_router.engines.translate.languages import UNSPACED, Languages, bare
from hybrid_router.engines.translate.pieces import begins_word, opened_pieces
from hybrid_router.engines.translate.sentences import portions, sentences

_VOCABULARIES = ("shared_vocabulary", "target_vocabulary", "source_vocabulary")
_END = "</s>"
_MOST_TOKENS = 160  # of a portion: what the models saw in training, mostly less
_MOST_WRITTEN = 3  # times as many tokens as were read, and a few
_BATCH_TOKENS = 256  # computed in one step
_MOST_CHARS = 200_000
_MOST_SHOWN = 12


class _Portion(Struct, frozen=True):
    """Tokens of one text; `before` stands between them and those before."""

    index: int
    before: str
    tokens: list[str]


class _Way(Struct, frozen=True):
    """From which language into which, as tokens of the model."""

    head: tuple[str, ...]
    prefix: tuple[str, ...]
    joint: str  # between two sentences


class Translator:
    """See `engines.turns.Craft`."""

    def __init__(self, settings: TranslatorSettings) -> None:
        """Open the model.

        Raises:
            EngineFailed: it cannot be used; names the folder.
        """
        folder = Path(settings.path)
        self._settings = settings
        self._languages = Languages(_vocabulary(folder))
        if not self._languages.names and settings.target is None:
            raise EngineFailed(
                f"{folder}: it knows one pair of languages, and does not say which: "
                "write `source` and `target` in router.yaml"
            )
        self._ends = () if _config(folder).get("add_source_eos") else (_END,)
        self._pieces = opened_pieces(folder)
        self._detector = Detector(self._languages.names)
        self._translator = _opened(folder, settings)

    def opened(self) -> Opened:
        count = len(self._languages.names)
        described = f"{count} languages" if count else f"{self._settings.source} → {self._settings.target}"
        return Opened(description=f"{self._languages.family}, {described}", parallel=1)

    def take(self, task: Task) -> Generator[Batch, None, Usage | None]:
        if not isinstance(task.ask, Translation):
            raise _refused("this model translates only", None)
        texts = [prompt for prompt in task.prompts if isinstance(prompt, str)]
        if not texts or len(texts) < len(task.prompts):
            raise _refused("input: expected texts", "input")
        if sum(map(len, texts)) > _MOST_CHARS:
            raise _refused(f"input: {_MOST_CHARS} characters are accepted in all", "input")
        self._target(task.ask.target)
        if task.ask.source is not None:
            self._source(task.ask.source)
        return self._translated(texts, task.ask)

    def _translated(self, texts: list[str], ask: Translation) -> Generator[Batch, None, Usage | None]:
        read_count = written_count = 0
        for index, text in enumerate(texts):
            yield []
            source, told = self._source_of(text, index, ask)
            if told:
                yield told
            if source is not None and bare(source) == bare(ask.target):
                if text:
                    yield [Text(text, index)]
                continue
            way = self._way(source, ask.target)
            for batch in _batches(self._portions(text, index, way.joint)):
                events, count = self._computed(batch, way)
                read_count += sum(len(portion.tokens) for portion in batch)
                written_count += count
                if events:
                    yield events
        return Usage(read_count, written_count)

    def _source_of(self, text: str, index: int, ask: Translation) -> tuple[str | None, list[Event]]:
        """The language of a text; where nobody said so, it is told.  None: the model needs not know."""
        name = ask.source or self._settings.source
        if name is not None or self._languages.family == "opus":
            return name, []
        if not text.strip():
            return ask.target, []
        name, likelihood = self._detector.language(text)
        return name, [Label(name, likelihood, index)]

    def _way(self, source: str | None, target: str) -> _Way:
        token = self._target(target)
        joint = "" if bare(target) in UNSPACED else " "
        if self._languages.family == "opus":
            return _Way(() if token is None else (token,), (), joint)
        return _Way((self._source(source or "") or "",), (token or "",), joint)

    def _target(self, name: str) -> str | None:
        """The token that says what to write; None: the model writes one language, which is this.

        Raises:
            TaskRefused: it does not write it.
        """
        if self._languages.names:
            return self._known(name, "target")
        if bare(name) != bare(self._settings.target or ""):
            raise _refused(f"target: this model writes {self._settings.target} only", "target")
        return None

    def _source(self, name: str) -> str | None:
        """The same of what is read."""
        if self._languages.family != "opus":
            return self._known(name, "source")
        if self._settings.source is not None and bare(name) != bare(self._settings.source):
            raise _refused(f"source: this model reads {self._settings.source} only", "source")
        return None

    def _known(self, name: str, param: str) -> str:
        token = self._languages.token(name)
        if token is None:
            names = self._languages.names
            shown = ", ".join(names[:_MOST_SHOWN]) + (", …" if len(names) > _MOST_SHOWN else "")
            raise _refused(f"{param}: this model does not know {name[:40]!r}; it knows {shown}", param)
        return token

    def _portions(self, text: str, index: int, joint: str) -> Iterator[_Portion]:
        for sentence in sentences(text):
            before = sentence.before if sentence.before.strip(" ") else joint if sentence.before else ""
            for tokens in portions(self._pieces.cut(sentence.text), _MOST_TOKENS, begins_word):
                yield _Portion(index, before, tokens)
                before = joint

    def _computed(self, batch: list[_Portion], way: _Way) -> tuple[list[Event], int]:
        """A batch's texts, and how many tokens were written."""
        longest = max(len(portion.tokens) for portion in batch)
        results = self._translator.translate_batch(
            [[*way.head, *portion.tokens, *self._ends] for portion in batch],
            target_prefix=[list(way.prefix)] * len(batch) if way.prefix else None,
            beam_size=self._settings.beam_size,
            max_decoding_length=_MOST_WRITTEN * longest + 20,
        )
        events: list[Event] = []
        written_count = 0
        for portion, result in zip(batch, results, strict=True):
            tokens = result.hypotheses[0][len(way.prefix) :]
            written_count += len(tokens)
            if text := portion.before + self._pieces.joined(tokens):
                events.append(Text(text, portion.index))
        return events, written_count

    def close(self) -> None:
        self._translator.unload_model()


def _batches(portions_: Iterator[_Portion]) -> Iterator[list[_Portion]]:
    """As many portions together as one step computes in about a second."""
    batch: list[_Portion] = []
    for portion in portions_:
        if batch and sum(len(one.tokens) for one in (*batch, portion)) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(portion)
    if batch:
        yield batch


def _opened(folder: Path, settings: TranslatorSettings) -> ctranslate2.Translator:
    count = 0 if settings.device == "cpu" else ctranslate2.get_cuda_device_count()
    if settings.device == "cuda" and not count:
        raise EngineFailed("device: cuda: there is no usable GPU; set device: auto or cpu")
    device = "cuda" if count else "cpu"
    compute_type = settings.compute_type
    if compute_type == "auto":
        compute_type = "float16" if device == "cuda" else "int8"
    try:
        return ctranslate2.Translator(
            str(folder), device=device, compute_type=compute_type, intra_threads=settings.threads
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineFailed(f"{folder}: not a translation model that can be used ({error})") from None


def _config(folder: Path) -> dict[str, object]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EngineFailed(f"{folder}/config.json: cannot be read ({error})") from None
    return found if isinstance(found, dict) else {}


def _vocabulary(folder: Path) -> list[str]:
    """Every token that the model can be given or may write."""
    for name in _VOCABULARIES:
        try:
            if (path := folder / f"{name}.json").is_file():
                return [str(token) for token in json.loads(path.read_text(encoding="utf-8"))]
            if (path := folder / f"{name}.txt").is_file():
                return path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, TypeError) as error:
            raise EngineFailed(f"{path}: cannot be read ({error})") from None
    raise EngineFailed(f"{folder}: not a CTranslate2 model: it has no vocabulary")


def _refused(message: str, param: str | None) -> TaskRefused:
    return TaskRefused("invalid_request_error", message, by_call=True, param=param)
