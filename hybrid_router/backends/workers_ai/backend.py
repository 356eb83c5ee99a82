"""Workers AI as a backend.

Always streamed from upstream, also for plain calls: so that the first token's timer means something and a
broken answer can be replaced.  A 200 may still carry an error, so the body decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType

from msgspec.structs import replace

from hybrid_router.backends import prefill
from hybrid_router.backends.declared import after_first
from hybrid_router.backends.discretion import prompt_of, without_prompt
from hybrid_router.backends.errand import Errand, Reader
from hybrid_router.backends.tally import total
from hybrid_router.backends.workers_ai.answer import Answer
from hybrid_router.backends.workers_ai.encode import EXTRA_FIELDS, Model, Request, requests
from hybrid_router.backends.workers_ai.gateway import Passage, keeps
from hybrid_router.backends.workers_ai.minutes import Minutes
from hybrid_router.backends.workers_ai.refusal import with_successor
from hybrid_router.backends.workers_ai.several import Several
from hybrid_router.backends.workers_ai.tasks.table import TASKS, TEXT, operations
from hybrid_router.backends.workers_ai.tasks.task import Asked, Send, Task
from hybrid_router.backends.workers_ai.upstream import Upstream
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.catalogue.families import Family, family
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.backend import GENERATES, Load
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch, Usage, says_something
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step

_EVERYTHING = frozenset({Feature.TOOLS, Feature.IMAGES, Feature.SCHEMA})


class WorkersAI:
    """Runs calls on Workers AI.

    Args:
        name: the backend's name in router.yaml, for messages.
        models: model id → what the catalogue knows of it; one not named there may do everything.
        prefills: models that go on from a last message of the assistant.
        gateway_token: of the AI Gateway that calls go through, where it wants one of its own.
        minutes: what accounts may be asked in a minute; None: nobody counts.
    """

    local = False
    extra_fields = EXTRA_FIELDS

    def __init__(
        self,
        name: str,
        config: WorkersAIBackend,
        account_id: str | Secret,
        token: Secret,
        models: Mapping[str, catalogue.Model] = MappingProxyType({}),
        *,
        prefills: frozenset[str] = prefill.PREFILLS,
        gateway_token: Secret | None = None,
        minutes: Minutes | None = None,
    ) -> None:
        self._name = name
        self._config = config
        self._models = models
        self._prefills = prefills | frozenset(config.prefills)
        account = account_id.reveal() if isinstance(account_id, Secret) else account_id
        self._upstream = Upstream(config, account, token, gateway_token)
        counted = minutes if minutes is not None and config.minute_limits else Minutes({})
        self._minute = counted.of(f"{config.base_url} {account.lower()}")
        self._running: Counter[str] = Counter()
        self._features: dict[str, frozenset[Feature]] = {}  # of known models: every plan asks for them

    def __repr__(self) -> str:
        return f"<WorkersAI {self._name}>"

    def operations(self, model: str) -> frozenset[Operation]:
        """What its family does; one that the catalogue does not know is taken to write text."""
        known = self._models.get(model)
        return GENERATES if known is None else operations(family(known))

    def features(self, model: str) -> frozenset[Feature]:
        """What the catalogue says; JSON mode works on most that write text, listed or not."""
        known = self._models.get(model)
        if known is None:
            return _EVERYTHING | self._goes_on(model)
        found = self._features.get(model)
        if found is None:
            found = self._features[model] = _features(model, known) | self._goes_on(model)
        return found

    def _goes_on(self, model: str) -> frozenset[Feature]:
        return frozenset({Feature.PREFILL} if model in self._prefills else ())

    def down(self, model: str) -> str | None:
        """Nothing is known before a call is tried."""
        return None

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        """A completion, wherever it is asked for; a chat only where the model is known to do it."""
        known = call.operation is Operation.COMPLETE or model in self._prefills
        return known and prefill.can_follow(call)

    def context(self, model: str) -> int | None:
        """What the catalogue says."""
        known = self._models.get(model)
        return None if known is None else known.context_window

    def load(self, model: str) -> Load:
        """This router's own calls; how busy Cloudflare is, nobody knows."""
        return Load(running_count=self._running[model])

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Yield the answer's events; see `core.backend.Backend.run`."""
        task = self._task(call, step.model)
        answer = self._written(call, step) if task is None else self._done(task, call, step)
        begun = False
        self._running[step.model] += 1
        try:
            async with aclosing(answer) as batches:
                async for batch in batches:
                    begun = begun or says_something(batch)
                    yield batch
        except RouterError as error:
            error = with_successor(error, self._models.get(step.model))
            failure = after_first(error) if begun else prefill.refused(error, call, Upstream.label)
            failure.detail = without_prompt(failure.detail, prompt_of(prefill.with_written(call)))
        else:
            return
        finally:
            self._running[step.model] -= 1
        raise failure

    async def _written(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Have text written.

        Several choices are asked for one after the other, but where one reply brings them all.
        """
        asked = self._asked(call, step.model)
        passage = self._passage(call)
        told: list[Usage | None] = []
        self._minute.take(step.model, len(asked))
        for request in asked:
            answer = self._answer(request, call)
            async with aclosing(self._upstream.answer(request, answer, step, passage)) as batches:
                async for batch in batches:
                    yield batch
            told.append(answer.usage)
        if usage := total(told):
            yield [prefill.moved(usage, call)]

    def _asked(self, call: Call, model: str) -> list[Request]:
        """Its requests.  What a gateway shall keep is no stream: see docs/adr/0014."""
        config = self._config
        asked = requests(call, self._model(model), config.chat_endpoint, config.default_max_tokens)
        if keeps(config.gateway) and not call.stream:
            return [replace(request, streams=False) for request in asked]
        return asked

    def _task(self, call: Call, model: str) -> Task | None:
        """Who does what is not written as text."""
        known = self._models.get(model)
        return None if known is None else TASKS.get((family(known), call.operation))

    def _done(self, task: Task, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Have a task done."""
        known = self._models[step.model]
        asked = Asked(
            call=call,
            model=step.model,
            family=family(known),
            known=known,
            config=self._config,
            models=self._models,
        )
        return task.run(asked, self._passage(call).sending(self._send(step)))

    def _send(self, step: Step) -> Send:
        """Send a task's requests, each counted in the minute before it goes."""

        def send(errand: Errand, reader: Reader) -> AsyncGenerator[Batch]:
            self._minute.take_for(errand.path)
            return self._upstream.errand(errand, reader, step.timeouts.connect_s)

        return send

    def _passage(self, call: Call) -> Passage:
        """The call's way through the gateway, if there is one."""
        return Passage(through=self._config.gateway is not None, choices_count=call.n)

    async def close(self) -> None:
        """Close every connection."""
        await self._upstream.close()

    def _answer(self, request: Request, call: Call) -> Answer | Several:
        def choice(place: int | None) -> Answer:
            return Answer(
                request.index + (place or 0),
                max_tokens=request.max_tokens,
                stops=request.stops,
                written=call.written,
                begun=prefill.begun(call),
                forced=request.forced,
                place=place,
            )

        return choice(None) if request.count == 1 else Several([choice(i) for i in range(request.count)])

    def _model(self, name: str) -> Model:
        known = self._models.get(name)
        if known is None:
            return Model(name=name)
        form = family(known)
        return Model(
            name=name,
            classic=known.native_result == "response",
            streams=known.streaming,
            chats=form is Family.CHAT,
            leaks=form is Family.BY_INPUT,
        )


def _features(model: str, known: catalogue.Model) -> frozenset[Feature]:
    """What the catalogue says of a model, and what its tasks can do beyond the plain ones."""
    form = family(known)
    able = {
        Feature.TOOLS: known.function_calling,
        Feature.IMAGES: known.vision,
        Feature.SCHEMA: form in TEXT,
        Feature.LOGPROBS: form is Family.CHAT,
        Feature.ADAPTERS: known.lora,
    }
    tasks = [task for (each, _), task in TASKS.items() if each is form]
    beyond = [task.features(form, model) for task in tasks]
    return frozenset(feature for feature, is_able in able.items() if is_able).union(*beyond)
