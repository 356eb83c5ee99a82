"""The figures of fallbacks and storms as tables."""

from __future__ import annotations

from collections.abc import Sequence

from bench import fallback, faults
from bench.fallback import Row
from bench.faults import Storm
from bench.routing_report import Block


def fallback_block(rows: Sequence[Row]) -> Block:
    """What going on to the next step costs."""
    missed = [row.case for row in rows if row.p50_ms > row.target_ms]
    return Block(
        "Fallback: what the step that fails costs",
        [
            f"Targets are for medians. {'Missed: ' + '; '.join(missed) if missed else 'Met everywhere'}.",
            f"Silent: from the client's request to the arrival of the next step's, less its `first_token` "
            f"({fallback.FIRST_TOKEN_S * 1000:g} ms); both ways through HTTP are in it. Added: beside a call "
            f"whose only step is the good one, in turns; noise may make it negative.",
        ],
        [
            ["case", "times", "p50 ms", "p99 ms", "target ms"],
            *(
                [
                    row.case,
                    str(len(row.added_ms)),
                    f"{row.p50_ms:.2f}",
                    f"{row.p99_ms:.2f}",
                    f"≤ {row.target_ms:g}",
                ]
                for row in rows
            ),
        ],
    )


def storm_block(storms: Sequence[Storm]) -> Block:
    """How many calls a cloud in trouble is sent."""
    missed = ", ".join(f"{storm.share:.0%}" for storm in storms if not storm.is_met)
    return Block(
        "Storms: a cloud that answers 503",
        [
            f"Target: at most {faults.TARGET_AMPLIFICATION:g} x the calls that the cloud is tried for, and "
            f"{faults.ALLOWED_COUNT} more. {f'Missed at {missed}' if missed else 'Met everywhere'}.",
            f"{faults.CLIENTS_COUNT} clients, each {faults.PAUSE_S * 1000:g} ms after its last answer; one "
            f"retry, then a second cloud. Sent: requests that the cloud in trouble got; calls that are "
            f"not tried go past its open breaker. To close: from the storm's end until it serves "
            "every call again.",
        ],
        [
            ["503s", "calls", "tried", "sent", "sent / tried", "not answered", "to close s"],
            *(
                [
                    f"{storm.share:.0%}",
                    f"{storm.calls_count:,}",
                    f"{storm.tried_count:,}",
                    f"{storm.sent_count:,}",
                    f"{storm.amplification:.2f}",
                    str(storm.unanswered_count),
                    f"{storm.to_close_s:.1f}",
                ]
                for storm in storms
            ),
        ],
    )
