"""From a task to token ids: chats, completions, texts with a gap."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

import jinja2
from msgspec import structs

from hybrid_router.core.call import Feature, ImagePart, Message, Operation, Part
from hybrid_router.engines.llama.chat.chat import Chat, form_of
from hybrid_router.engines.llama.media.block import Block, tokens_count
from hybrid_router.engines.llama.media.projector import Projector
from hybrid_router.engines.llama.media.sources import Medium, Picture, medium_of, refused
from hybrid_router.engines.llama.passages import shortened
from hybrid_router.engines.llama.seams import Prompt
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.llama.written import tokens_of
from hybrid_router.engines.pictures import MOST_PIXELS
from hybrid_router.engines.task import EngineFailed, Task, TaskRefused

_INFILL = ("fim_pre", "fim_suf", "fim_mid")


@dataclass(frozen=True)
class Given:
    """A prompt as it is computed, and how its answer is read."""

    tokens: list[int]
    prompt: Prompt
    blocks: tuple[Block, ...] = ()

    @property
    def tokens_count(self) -> int:
        """What it takes of the context."""
        return tokens_count(self.blocks, len(self.tokens))

    @property
    def text(self) -> list[int]:
        """The tokens that are words."""
        return [token for token in self.tokens if token >= 0] if self.blocks else self.tokens


class Prompts:
    """Writes the prompts of one model.  `length` is its context in tokens."""

    def __init__(self, weights: Weights, length: int, projector: Projector | None = None) -> None:
        """Compile the model's template.

        Raises:
            EngineFailed: it is not valid; names the file.
        """
        self._weights = weights
        self._length = length
        self._projector = projector
        self._chat = _compiled(weights, media=projector is not None)

    @property
    def has_template(self) -> bool:
        """Whether conversations can be rendered."""
        return self._chat is not None

    @property
    def can(self) -> frozenset[Feature]:
        """What this model understands beyond text."""
        found = {Feature.SCHEMA, Feature.GRAMMAR, Feature.LOGPROBS}
        if self._chat is not None:
            found |= self._chat.can | {Feature.PREFILL}
            found |= frozenset() if self._projector is None else self._projector.can
        if all(self._weights.special(mark) is not None for mark in _INFILL):
            found.add(Feature.INFILL)
        return frozenset(found)

    def of(self, task: Task, written: list[int]) -> list[Given]:
        """Token ids of each prompt, and how its answer is read.

        `written` are the answer's tokens so far.

        Raises:
            TaskRefused: no tokens, too many of them, or such as the model does not have; or an image or sound
                that cannot be read.
        """
        if task.operation is Operation.CHAT:
            prompts = [self._conversation(task, len(written))]
        else:
            read = Prompt("", form=form_of(task.response_format))
            prompts = [Given(self._text(prompt, task, len(written)), read) for prompt in task.prompts]
        for given in prompts:
            self._check(given, len(written), task)
        return prompts

    def _conversation(self, task: Task, written_count: int) -> Given:
        media = _Media()
        begun = ""
        if task.goes_on:
            begun = task.messages[-1].text
            task = structs.replace(task, messages=task.messages[:-1])
        given = self._rendered(task, media, begun, blank=task.truncate is not None)
        left_out_count = 0
        while task.truncate is not None and not self._fits(given.tokens_count, written_count, task):
            left_out_count += 1
            messages = without_turns(task.messages, left_out_count, middle=task.truncate == "middle")
            if messages is None:
                break
            task = structs.replace(task, messages=messages)
            given = self._rendered(task, media, begun, blank=True)
        return self._rendered(task, media, begun) if task.truncate is not None and given.blocks else given

    def _rendered(self, task: Task, media: _Media, begun: str, *, blank: bool = False) -> Given:
        """The prompt, `begun` behind it: the beginning of the assistant's message, which the client wrote."""
        if self._chat is None:
            raise TaskRefused("template_failed", "this model has no chat template; use /v1/completions")
        prompt = self._chat.prepare(task, opening=begun + task.written)
        bos = self._weights.special_text("bos")
        add_special = not (bos and prompt.text.startswith(bos))
        behind = tokens_of(begun, self._weights) if begun else []
        if not prompt.media or self._projector is None:
            return Given(self._weights.tokenize(prompt.text, add_special=add_special) + behind, prompt)
        parts = media.placed(prompt, self._projector)
        read = self._projector.read(parts, add_special=add_special, blank=blank)
        return Given(read.tokens + behind, prompt, read.blocks)

    def _text(self, prompt: str | tuple[int, ...], task: Task, written_count: int) -> list[int]:
        if task.suffix is not None:
            return self._infill(prompt, task.suffix, task, written_count)
        return self._plain(prompt, task, written_count)

    def _plain(self, prompt: str | tuple[int, ...], task: Task, written_count: int) -> list[int]:
        tokens = self._weights.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        if task.truncate is None or self._fits(len(tokens), written_count, task):
            return tokens
        room_count = self._room_count(task, written_count)
        return shortened(tokens, room_count, frozenset(), middle=task.truncate == "middle")

    def _infill(
        self, prefix: str | tuple[int, ...], suffix: str, task: Task, written_count: int
    ) -> list[int]:
        """Prefix and suffix around the gap, as the model was trained to read them."""
        marks = [self._weights.special(name) for name in _INFILL]
        if any(mark is None for mark in marks):
            raise TaskRefused(
                "unsupported_parameter",
                "suffix: this model has no fill-in-the-middle tokens; leave it out, or use a code model",
                by_call=True,
                param="suffix",
            )
        before, behind, gap = (mark for mark in marks if mark is not None)
        tokenize = self._weights.tokenize
        head = [] if not (bos := self._bos()) else [bos]
        if isinstance(prefix, str):
            prefix = tuple(tokenize(prefix, add_special=False, read_special=False))
        ahead, after = list(prefix), tokenize(suffix, add_special=False, read_special=False)
        marks_count = len(head) + len(_INFILL)
        if task.truncate is not None and not self._fits(
            len(ahead) + len(after) + marks_count, written_count, task
        ):
            room_count = self._room_count(task, written_count) - marks_count
            ahead, after = around_gap(ahead, after, max(0, room_count))
        return [*head, before, *ahead, behind, *after, gap]

    def _bos(self) -> int | None:
        """The token that the vocabulary wants in front of every text."""
        empty = self._weights.tokenize("", add_special=True)
        bos = self._weights.special("bos")
        return bos if bos in empty else None

    def _wanted_count(self, task: Task) -> int:
        """Tokens that are left for the answer when something is left out of the prompt for it."""
        wanted_count = task.sampling.max_tokens
        return min(self._length // 4 if wanted_count is None else wanted_count, self._length // 2)

    def _room_count(self, task: Task, written_count: int) -> int:
        """Tokens that are left for the prompt then."""
        return max(1, self._length - written_count - self._wanted_count(task))

    def _fits(self, prompt_count: int, written_count: int, task: Task) -> bool:
        return prompt_count + written_count + self._wanted_count(task) <= self._length

    def _check(self, given: Given, written_count: int, task: Task) -> None:
        param = "messages" if task.operation is Operation.CHAT else "prompt"
        if not given.tokens:
            raise TaskRefused("invalid_request_error", "the prompt is empty", by_call=True, param=param)
        if given.blocks and given.blocks[-1].end == len(given.tokens) and not written_count:
            raise refused("the prompt ends in an image or sound; this model needs words behind it")
        if any(not 0 <= token < self._weights.vocabulary_count for token in given.text):
            raise TaskRefused(
                "invalid_request_error",
                f"the prompt holds a token id outside 0 to {self._weights.vocabulary_count - 1}",
                by_call=True,
                param=param,
            )
        least_count = 0 if task.sampling.max_tokens == 0 else 1  # of an answer that is wanted
        if given.tokens_count + written_count + least_count > self._length:
            begun = f" and the answer so far {written_count}" if written_count else ""
            raise TaskRefused(
                "context_length_exceeded",
                f"the prompt has {given.tokens_count} tokens{begun}, "
                f"this model's context is {self._length} tokens",
                by_call=True,
                param=param,
            )


class _Media:
    """The images and sound of one call, each read once."""

    def __init__(self) -> None:
        self._read: dict[int, Medium] = {}
        self._pixels_count = 0

    def placed(self, prompt: Prompt, projector: Projector) -> list[str | Medium]:
        """The prompt's text and media in turn, wherever the template put them."""
        marks = re.compile("|".join(map(re.escape, prompt.media)))
        found = marks.findall(prompt.text)
        if len(found) != len(prompt.media) or set(found) != set(prompt.media):
            raise TaskRefused(
                "template_failed", "the model's chat template leaves images out, or shows them twice"
            )
        parts: list[str | Medium] = []
        for text, mark in zip_longest(marks.split(prompt.text), found):
            parts += [text] if text else []
            parts += [self._medium(prompt.media[mark], len(self._read) + 1, projector)] if mark else []
        return parts

    def _medium(self, part: Part, number: int, projector: Projector) -> Medium:
        known = self._read.get(id(part))
        if known is not None:
            return known
        name = _named(part, number, projector)
        medium = self._read[id(part)] = medium_of(part, name)
        if isinstance(medium, Picture):
            self._pixels_count += medium.width * medium.height
            if self._pixels_count > MOST_PIXELS:
                raise refused(f"the images together have over {MOST_PIXELS // 1_000_000} million pixels")
        return medium


def _named(part: Part, number: int, projector: Projector) -> str:
    """What to call a part; refuse what the projector cannot read."""
    image = isinstance(part, ImagePart)
    if (Feature.IMAGES if image else Feature.AUDIO) not in projector.can:
        wanted, instead = ("images", "sound") if image else ("sound", "images")
        raise TaskRefused(
            "unsupported_parameter",
            f"messages: this model's projector takes {instead}, not {wanted}",
            by_call=True,
        )
    return f"image {number}" if image else f"sound {number}"


def _compiled(weights: Weights, *, media: bool) -> Chat | None:
    if weights.template() is None:
        return None
    try:
        return Chat(weights, media=media)
    except jinja2.TemplateError as error:
        raise EngineFailed(f"{weights.path}: its chat template is not valid ({error})") from error


def around_gap(ahead: list[int], after: list[int], room_count: int) -> tuple[list[int], list[int]]:
    """The tokens nearest to a gap: three quarters from before it, unless a side has no need of its share."""
    after_count = min(len(after), max(room_count // 4, room_count - len(ahead)))
    ahead_count = min(len(ahead), room_count - after_count)
    return ahead[len(ahead) - ahead_count :], after[:after_count]


def without_turns(messages: tuple[Message, ...], count: int, *, middle: bool) -> tuple[Message, ...] | None:
    """A conversation without `count` of its turns; None: no turn is left to go.

    The system's words and the last turn stay.  The oldest go first, or those around the middle.  What a tool
    said goes with the call it answers.
    """
    kept = [message for message in messages if message.role in {"system", "developer"}]
    turns = [message for message in messages if message.role not in {"system", "developer"}]
    if count >= len(turns):
        return None
    start = (len(turns) - count) // 2 if middle else 0
    left = turns[:start] + turns[start + count :]
    while left and left[min(start, len(left) - 1)].role in {"tool", "function"} and len(left) > 1:
        del left[min(start, len(left) - 1)]
    return (*kept, *left)
