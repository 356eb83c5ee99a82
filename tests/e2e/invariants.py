"""What must hold after every trial, whatever was done to the service in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from router_process import TOKEN, Level, Router
from wire_client import PROMPT_CANARY, Answer

Lines = list[dict[str, Any]]
POOLED_COUNT = 4  # connections that may be kept for a cloud's next call; no trial makes more at once


async def assert_invariants(
    router: Router,
    before: Level,
    answers: Sequence[Answer],
    *,
    left_count: int = 0,
    pooled_count: int = POOLED_COUNT,
) -> Lines:
    """Hold a trial against I3, I6, I9 and I10; gives the attempts' lines.

    Args:
        router: the service, quiet again.
        before: its level when the trial began.
        answers: everything its clients were told in the trial.
        left_count: calls whose clients did not stay for the answer.
        pooled_count: connections that may be kept for a cloud's next call.
    """
    for answer in answers:
        assert_end_is_true(answer)
    await router.quiet(before.children)
    assert router.pooled() <= pooled_count
    attempts = _lines(router, before, "attempt")
    assert len(_lines(router, before, "call")) == len(answers) + left_count
    assert_log_tells_what_was_seen(attempts, _lines(router, before, "call"), answers)
    told = router.log_text.encode()[before.log_bytes :].decode()
    assert [secret for secret in (TOKEN, PROMPT_CANARY) if secret in told] == []
    return attempts


def assert_end_is_true(answer: Answer) -> None:
    """I3: an answer is ended if and only if it is whole; it has one role a choice and one ending."""
    indexes = {choice["index"] for choice in answer.choices}
    whole = answer.error is None
    if answer.streamed:
        assert answer.done == whole
    assert len(answer.finish_reasons) == (len(indexes) if whole else 0)
    assert len(answer.roles) == (len(indexes) if answer.path.endswith("chat/completions") else 0)
    assert whole == bool(answer.status == 200 and answer.finish_reasons)


def assert_log_tells_what_was_seen(attempts: Lines, calls: Lines, answers: Sequence[Answer]) -> None:
    """I10: a line for each attempt and one for each call, which say what the client saw."""
    by_decision = defaultdict(list)
    for line in attempts:
        by_decision[line["decision"]].append(line)
    for lines in by_decision.values():
        assert [line["attempt"] for line in lines] == list(range(1, len(lines) + 1))
    for answer in answers:
        (call,) = [line for line in calls if line["request"] == answer.headers["x-request-id"]]
        assert call["status"] == answer.status
        assert call.get("error") == (answer.error["code"] if answer.error else None)
        if "x-router-decision" not in answer.headers:
            continue
        lines = by_decision[answer.headers["x-router-decision"]]
        begun_count = int(answer.headers["x-router-attempts"])  # when the head went out
        assert all(line.get("mode") for line in lines[begun_count:]), "the rest went on with a broken answer"
        if answer.error is None:
            assert lines[-1]["outcome"] == "answered"
            assert lines[begun_count - 1]["backend"] == answer.headers["x-router-backend"]
            _assert_same_usage(lines[-1], answer)


def _assert_same_usage(line: dict[str, Any], answer: Answer) -> None:
    names = ("prompt_tokens", "completion_tokens")
    told = answer.usage or {}
    assert {name: line.get(name) for name in names} == {name: told.get(name) for name in names}


def _lines(router: Router, before: Level, event: str) -> Lines:
    return [line for line in router.log(before) if line["event"] == event]
