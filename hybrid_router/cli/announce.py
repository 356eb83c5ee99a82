"""What a person wants to know when the router is ready."""

from __future__ import annotations

from hybrid_router import __version__
from hybrid_router.app.router import Running
from hybrid_router.cli.first_call import curl
from hybrid_router.config.schema import Config
from hybrid_router.core.call import usual

_EVERY_ADDRESS = ("0.0.0.0:", "[::]:")


def announcement(running: Running, config: Config) -> str:
    """What a person wants to know when the router is ready."""
    lines = [f"hybrid-router {__version__} answers on {running.url}/v1", *_elsewhere(running.url, config), ""]
    unservable = running.service.unservable()
    width = max(len(alias) for alias in config.aliases)
    for alias, route in config.aliases.items():
        steps = [_step_text(step.step, running) for step in route.try_]
        mark = " (nothing can serve it)" if alias in unservable else ""
        lines.append(f"  {alias:<{width}}  {', then '.join(steps)}{mark}")
    lines += [f"  backend {name} is off: {why}" for name, why in running.off.items()]
    servable = next((alias for alias in config.aliases if alias not in unservable), None)
    if servable is not None:
        operation = usual(running.service.facts(servable).operations.values())
        lines += ["", "Try it:"]
        lines.append(f"  {curl(running.url, servable, operation, keyed=bool(config.server.keys))}")
    return "\n".join(lines)


def _elsewhere(url: str, config: Config) -> list[str]:
    """How other machines reach a router that listens on every address, if they do."""
    listen, allowed = config.server.listen, config.server.allowed_hosts
    if not listen.startswith(_EVERY_ADDRESS):
        return []
    if not allowed:
        return [f"  and on no other name: server.allowed_hosts lists none, so {listen} is for this machine"]
    port = url.rpartition(":")[2]
    return [f"  and, for others, on {', '.join(f'http://{_bracketed(name)}:{port}/v1' for name in allowed)}"]


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _step_text(step: str, running: Running) -> str:
    backend, _, model = step.partition("/")
    if backend in running.off:
        return f"{step} (off)"
    reason = running.service.down(backend, model)
    return step if reason is None else f"{step} (down: {reason})"
