"""The figures of predictions, hedges and plans as tables."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from bench import hedging, planning, prediction
from bench.hedging import Hedging
from bench.planning import Planning
from bench.prediction import Predictions


class Block(Struct):
    """A heading, what is to know, and a table, if there is one.  The first row names the columns."""

    title: str
    notes: list[str]
    rows: list[list[str]]


def prediction_blocks(found: Predictions) -> Iterator[Block]:
    """Errors of predictions, and what choosing by them costs."""
    missed = [
        f"{one.step}, {what}"
        for one in found.errors
        for what, error in (("first token", one.first_token_error), ("total", one.total_error))
        if error > prediction.TARGET_ERROR
    ]
    verdict = f"Target: median error at most {prediction.TARGET_ERROR:.0%}. "
    verdict += f"Missed: {'; '.join(missed)}." if missed else "Met everywhere."
    yield Block(
        "Prediction: how far off",
        [verdict, *(f"{one.step}: {one.said}." for one in found.errors)],
        [
            ["step", "attempts", "first token", "total", "total, length known", "later than p90"],
            *(
                [
                    one.step,
                    f"{one.attempts_count:,}",
                    f"{one.first_token_error:.1%}",
                    f"{one.total_error:.1%}",
                    f"{one.known_length_error:.1%}",
                    f"{one.late_share:.1%}",
                ]
                for one in found.errors
            ),
        ],
    )
    yield Block(
        "Prediction: choosing by it",
        [
            "Every call at the step that was chosen for it. Regret: beyond the best step of each call, which "
            "only hindsight knows."
        ],
        [
            ["among", "chosen", "all calls s", "regret s", "best step chosen"],
            *(
                [
                    one.among,
                    one.way,
                    f"{one.total_s:,.0f}",
                    f"{one.total_s - one.best_s:,.0f}",
                    f"{one.best_share:.0%}",
                ]
                for one in found.regrets
            ),
        ],
    )


def hedging_block(found: Hedging) -> Block:
    """First tokens with and without hedges."""
    met = found.less >= hedging.TARGET_LESS and found.more_calls <= hedging.TARGET_MORE_CALLS
    verdict = (
        f"Target: p99 at least {hedging.TARGET_LESS:.0%} lower for at most {hedging.TARGET_MORE_CALLS:.0%} "
        f"more calls. {'Met' if met else 'Missed'}: {found.less:.0%} lower for {found.more_calls:.1%} more."
    )
    return Block(
        "Hedging: first tokens of which one in twenty is slow",
        [verdict, f"{found.calls_count:,} calls; {found.said}."],
        [
            ["", "p50 s", "p99 s", "calls"],
            ["first cloud alone", f"{found.plain_p50_s:.2f}", f"{found.plain_p99_s:.2f}", "1.000"],
            [
                "hedged",
                f"{found.hedged_p50_s:.2f}",
                f"{found.hedged_p99_s:.2f}",
                f"{1 + found.more_calls:.3f}",
            ],
        ],
    )


def planning_block(found: Planning) -> Block:
    """What deciding costs."""
    missed = [
        f"{row.prompt_bytes // 1024} KB {row.text}" for row in found.rows if row.p99_s >= planning.TARGET_S
    ]
    verdict = f"Target: p99 below {planning.TARGET_S * 1000:g} ms. "
    verdict += f"Missed: {', '.join(missed)}." if missed else "Met everywhere."
    return Block(
        f"Planning: {found.rules_count} rules, {found.aliases_count} aliases",
        [verdict, "CPU time of `routing.plan.plan`; eight steps an alias, speeds and prices of all known."],
        [
            ["prompt", "text", "plans", "p50 ms", "p99 ms"],
            *(
                [
                    f"{row.prompt_bytes // 1024} KB",
                    row.text,
                    f"{row.calls_count:,}",
                    f"{row.p50_s * 1000:.2f}",
                    f"{row.p99_s * 1000:.2f}",
                ]
                for row in found.rows
            ),
        ],
    )
