"""`hybrid-router`: finds the command and imports that one alone, so that each starts fast."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType

import click

from hybrid_router import __version__

# Each command is `command` in the module of its name here.  The summaries stand here so that `--help`
# imports no server.
SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "serve": "Answer calls on the address that router.yaml names.",
        "reload": "Have the running router take up its router.yaml anew.",
        "check": "Validate router.yaml; say everything that is wrong with it.",
        "plan": "Show which steps a call would take, in which order, and why.",
        "budget": "Show what the day's neurons have come to, and what is left.",
        "drill": "Run the policy against servers that fail, and say what a client would see.",
        "replay": "Say what another policy would have done with the calls of the last days.",
        "models": "Add, list, verify, show and remove model files.",
        "cloud": "Look after the Workers AI account: fine-tunes, models, documents, batches.",
        "keys": "Make client keys.",
        "emulate": "Serve a cloud's API on loopback, to try and to test without an account.",
    }
)


class LazyGroup(click.Group):
    """A group whose commands live in `hybrid_router.cli.<name>:command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which a newcomer meets them."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if there is none of this name."""
        if cmd_name not in SUMMARIES:
            return None
        module = importlib.import_module(f"hybrid_router.cli.{cmd_name}")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"hybrid_router.cli.{cmd_name}.command is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        if args and args[0] not in SUMMARIES and not args[0].startswith("-"):
            ctx.fail(_unknown(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, SUMMARIES, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SUMMARIES)}."
    return f"no command {name!r}: {meant}"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hybrid-router")
def main() -> None:
    """One OpenAI-compatible address on your own machine: local models first, Workers AI behind them."""
