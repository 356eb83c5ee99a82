"""What the types cannot say: names that must exist, waits that must fit, addresses that must be guarded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hybrid_router.config import timeouts
from hybrid_router.config.addresses import check_encrypted, is_here
from hybrid_router.config.backend_schema import LocalBackend, Waits
from hybrid_router.config.cloud_schema import (
    BackendConfig,
    CloudBackend,
    HuggingFaceBackend,
    OpenAIBackend,
    WorkersAIBackend,
)
from hybrid_router.config.fronts import check_front
from hybrid_router.config.gateways import check_gateway
from hybrid_router.config.languages import LANGUAGES
from hybrid_router.config.listen import is_loopback, parse_listen
from hybrid_router.config.local_models import check_adapters, check_local_model
from hybrid_router.config.neurons import check_neurons
from hybrid_router.config.problems import KeyPath, Problems, did_you_mean
from hybrid_router.config.schema import Above, Alias, Condition, Config, Rule, Server, TryStep

KINDS = ("local", "cloud")
NO_KEY = "local"  # the principal of whoever calls without a key


def check(config: Config, problems: Problems) -> None:
    """Note everything that is well written and still cannot work."""
    _check_server(config.server, problems)
    for name, backend in config.backends.items():
        _check_backend(name, backend, problems)
        if isinstance(backend, WorkersAIBackend):
            check_neurons(backend.neurons, ("backends", name, "neurons"), problems)
            _check_rates(config, name, backend, problems)
    for name, alias in config.aliases.items():
        for path, step in problems.numbered(("aliases", name, "try"), alias.try_):
            _check_step(config, alias, step, path, problems)
        check_adapters(alias, ("aliases", name), config.backends, problems)
    for path, rule in problems.numbered(("rules",), config.rules):
        _check_rule(config, rule, path, problems)
    check_front(config, problems)
    rules = problems.numbered(("rules",), config.rules)
    _check_unique((((*path, "name"), rule.name) for path, rule in rules), problems)


def _check_rates(config: Config, name: str, backend: WorkersAIBackend, problems: Problems) -> None:
    """Note prices of models that are never called, unless an alias with mistakes may have tried them."""
    if any(problem.path.startswith("aliases") for problem in problems.found):
        return
    steps = [step for alias in config.aliases.values() for step in alias.try_]
    known = dict.fromkeys((*backend.models, *(step.model for step in steps if step.backend == name)))
    for model in backend.neurons.rates:
        if model not in known:
            path = ("backends", name, "neurons", "rates", model)
            problems.add(path, f"no alias tries {model} here{did_you_mean(model, known)}", at_key=True)


def _check_server(server: Server, problems: Problems) -> None:
    path: KeyPath = ("server", "listen")
    try:
        host, _ = parse_listen(server.listen)
    except ValueError as error:
        problems.add(path, str(error))
    else:
        if not is_loopback(host) and not server.keys:
            problems.add(path, "others can reach this address: add server.keys, or listen on 127.0.0.1")
    keys = tuple(problems.numbered(("server", "keys"), server.keys))
    _check_unique((((*below, "name"), key.name) for below, key in keys), problems)
    _check_unique((((*below, "sha256"), key.sha256) for below, key in keys), problems)
    for below, key in keys:
        if key.name == NO_KEY:
            problems.add((*below, "name"), f"{NO_KEY} is who calls without a key; take another name")


def _check_unique(named: Iterable[tuple[KeyPath, str]], problems: Problems) -> None:
    """Note every name that was used before."""
    seen: set[str] = set()
    for path, name in named:
        if name in seen:
            problems.add(path, f"{name} is used above; each needs its own")
        seen.add(name)


def _check_backend(name: str, backend: BackendConfig, problems: Problems) -> None:
    path: KeyPath = ("backends", name)
    if name == "cloud":
        problems.add(path, "cloud means every cloud in rules; take another name", at_key=True)
    if isinstance(backend, LocalBackend):
        for model, chosen in backend.models.items():
            check_local_model(chosen, (*path, "models", model), problems)
        return
    _check_no_load(backend.timeouts, (*path, "timeouts"), problems)
    if name == "local":
        problems.add(path, "local means this machine; a cloud needs another name", at_key=True)
    _check_addresses(backend, path, problems)
    if isinstance(backend, WorkersAIBackend) and backend.gateway is not None:
        check_gateway(backend.gateway, (*path, "gateway"), problems)


def _check_addresses(backend: CloudBackend, path: KeyPath, problems: Problems) -> None:
    if isinstance(backend, OpenAIBackend) and backend.on_this_machine and not is_here(backend.base_url):
        problems.add((*path, "on_this_machine"), "base_url is not a loopback address: it runs elsewhere")
    if backend.token is not None:
        check_encrypted(backend.base_url, (*path, "base_url"), problems)
    if isinstance(backend, HuggingFaceBackend):
        check_encrypted(backend.tasks_url, (*path, "tasks_url"), problems)


def _check_no_load(waits: Waits, path: KeyPath, problems: Problems) -> None:
    """Note a wait that never begins; in an alias's or the global timeouts it is for local steps."""
    if waits.load is not None:
        problems.add((*path, "load"), "a cloud loads nothing here: remove it")


def _check_step(config: Config, alias: Alias, step: TryStep, path: KeyPath, problems: Problems) -> None:
    wrong = _no_such_step(config, step, problems)
    if wrong:
        problems.add(path, wrong)
    backend = config.backends.get(step.backend)
    if backend is None:
        return
    local = isinstance(backend, LocalBackend)
    if not local:
        _check_no_load(step.timeouts, (*path, "timeouts"), problems)
    impossible = timeouts.disorder(timeouts.of_step(config, alias, step), local=local)
    if impossible:
        problems.add(path, f"timeouts that cannot work: {impossible}")


def _no_such_step(config: Config, step: TryStep, problems: Problems) -> str | None:
    """Why nobody can run this step, or None."""
    written = problems.names(("backends",))  # one with mistakes of its own exists all the same
    if step.backend not in written:
        return f"no backend {step.backend}{did_you_mean(step.backend, written)}"
    backend = config.backends.get(step.backend)
    if backend is None or (isinstance(backend, WorkersAIBackend) and not backend.models):
        return None
    models = problems.names(("backends", step.backend, "models")) or tuple(backend.models)
    if step.model not in models:
        return f"{step.backend} has no model {step.model}{did_you_mean(step.model, models)}"
    return None


def _check_rule(config: Config, rule: Rule, path: KeyPath, problems: Problems) -> None:
    actions = [name for name in problems.names(path) if name not in {"name", "when"}]
    if not actions:
        problems.add(path, f"{rule.name} does nothing: give it first, only, local_only or refuse")
    if "refuse" in actions and len(actions) > 1:
        problems.add(path, "a refused call runs nowhere: write refuse alone")
    for key in ("first", "only"):
        for below, target in problems.numbered((*path, key), getattr(rule, key) or ()):
            wrong = _no_such_target(config, target, problems)
            if wrong:
                problems.add(below, wrong)
    _check_condition(config, rule.when, (*path, "when"), problems)


def _no_such_target(config: Config, target: str, problems: Problems) -> str | None:
    """Why a rule's target means nobody, or None."""
    backends = problems.names(("backends",))
    if target in KINDS or target in backends:
        return None
    if "/" not in target:
        return f"no backend {target}{did_you_mean(target, (*KINDS, *backends))}"
    steps = {step.step for alias in config.aliases.values() for step in alias.try_}
    return None if target in steps else f"no alias tries {target}{did_you_mean(target, sorted(steps))}"


def _check_condition(config: Config, condition: Condition, path: KeyPath, problems: Problems) -> None:
    _check_names(condition.alias, "alias", problems.names(("aliases",)), path, problems)
    _check_keys(config, condition, path, problems)
    if condition.time is not None:
        begins, _, ends = condition.time.partition("-")
        if begins == ends:
            problems.add((*path, "time"), "ends when it begins: leave it out to mean the whole day")
    _check_names(condition.language, "language", sorted(LANGUAGES), path, problems)
    if condition.prompt_tokens is not None:
        _check_range(condition.prompt_tokens, (*path, "prompt_tokens"), problems)
    for below, inner in _inner(condition, path, problems):
        if inner == Condition():
            problems.add(below, "an empty condition; give it a key or remove it")
        _check_condition(config, inner, below, problems)


def _check_keys(config: Config, condition: Condition, path: KeyPath, problems: Problems) -> None:
    if config.server.keys:
        known = tuple(key.name for key in config.server.keys)
        _check_names(condition.key, "key", known, path, problems)
        return
    for below, name in problems.numbered((*path, "key"), condition.key or ()):
        if name != NO_KEY:
            problems.add(below, f"no key {name}: server.keys has none, so whoever calls is {NO_KEY}")


def _check_range(size: Above, path: KeyPath, problems: Problems) -> None:
    if size.above is None and size.below is None:
        problems.add(path, "says nothing: give it above, below or both")
    elif size.above is not None and size.below is not None and size.below <= size.above + 1:
        problems.add(path, f"nothing is above {size.above} and below {size.below}")


def _check_names(
    names: tuple[str, ...] | None, what: str, known: Sequence[str], path: KeyPath, problems: Problems
) -> None:
    for below, name in problems.numbered((*path, what), names or ()):
        if name not in known:
            problems.add(below, f"no {what} {name}{did_you_mean(name, known)}")


def _inner(condition: Condition, path: KeyPath, problems: Problems) -> Iterator[tuple[KeyPath, Condition]]:
    for key in ("any", "all"):
        yield from problems.numbered((*path, key), getattr(condition, key) or ())
    if condition.not_ is not None:
        yield (*path, "not"), condition.not_
