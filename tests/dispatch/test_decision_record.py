"""What is kept of a call: enough to explain it and to plan it again, and not a word of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid_router.config.schema import Condition, Config
from hybrid_router.core.asks import Painting
from hybrid_router.core.backend import Load
from hybrid_router.core.call import AudioPart, Call, Feature, ImagePart, Message, Operation, TextPart
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Usage
from hybrid_router.core.step import LeftOut, Plan, Prediction, Step, Timeouts
from hybrid_router.core.upload import Upload
from hybrid_router.dispatch.archive import Archive
from hybrid_router.dispatch.decision import Decision, Ending, circumstances, decision, outcome, row
from hybrid_router.dispatch.features import Sought, Words, digest, sought
from hybrid_router.dispatch.record import Attempt, Outcome, Record
from hybrid_router.dispatch.replay import again
from hybrid_router.routing.conditions import compiled
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.subject import Subject
from hybrid_router.store.database import open_store

CANARY = "canary words"
AT_S = time.mktime((2026, 3, 4, 22, 45, 0, 0, 0, -1))  # a Wednesday
TIMEOUTS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)
ENDING = Ending(at_s=AT_S, started_s=100.0, duration_s=2.5, status=200, error=None)
NOTHING = Sought()
UPLOAD = Upload(fd=0, size_bytes=1, name="server.pem")


def config(*rules: dict[str, Any], **store: Any) -> Config:
    """A configuration with these rules."""
    written = {
        "backends": {"local": {"type": "local", "models": {"a": {"engine": "llama"}}}},
        "aliases": {"fast": {"try": [{"step": "local/a"}]}},
        "rules": list(rules),
        "store": store,
    }
    return msgspec.convert(written, Config)


def call(**chosen: Any) -> Call:
    """A chat that says something."""
    given: dict[str, Any] = {
        "id": "chatcmpl-1",
        "operation": Operation.CHAT,
        "alias": "fast",
        "messages": (Message(role="user", content=CANARY),),
        "principal": "ann",
        "path": "/v1/chat/completions",
    }
    return Call(**{**given, **chosen})


def record(**chosen: Any) -> Record:
    """A plan of two steps, of which one was left out, and an attempt."""
    plan = Plan(
        steps=(
            Step(
                backend="local",
                model="a",
                timeouts=TIMEOUTS,
                because="try order of alias fast",
                predicted=Prediction(first_token_s=0.5),
                context=4096,
            ),
        ),
        left_out=(LeftOut(step="cloud/b", because="cloud cannot be reached: this machine is offline"),),
        rules=("stay",),
        total_s=60.0,
        prompt_tokens=7,
        local_only=chosen.pop("local_only", False),
    )
    attempt = Attempt(
        backend="local",
        model="a",
        started_s=100.25,
        first_event_s=100.75,
        ended_s=102.25,
        outcome="answered",
        usage=Usage(9, 3, cached_tokens=2, prefill_s=0.4),
        detail=CANARY,
    )
    return Record(**{"id": "dec_1", "plan": plan, "attempts": [attempt], **chosen})


def written(decided: Decision) -> bytes:
    """As the store keeps it."""
    return msgspec.json.encode(decided)


def test_a_record_says_what_was_decided_and_what_became_of_it() -> None:
    """Steps with reasons and predictions, who was left out, and attempts in seconds from the call's start."""
    document = msgspec.json.decode(written(decision(call(), record(), ENDING, NOTHING, prompts=False)))

    assert document["steps"] == [
        {
            "step": "local/a",
            "because": "try order of alias fast",
            "predicted": {
                "first_token_s": 0.5,
                "first_token_p90_s": None,
                "total_s": None,
                "neurons": 0.0,
                "usd": 0.0,
            },
            "context": 4096,
        }
    ]
    assert document["left_out"] == [
        {"step": "cloud/b", "because": "cloud cannot be reached: this machine is offline"}
    ]
    assert document["attempts"] == [
        {
            "step": "local/a",
            "outcome": "answered",
            "started_s": 0.25,
            "first_token_s": 0.5,
            "total_s": 2.0,
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "cached_tokens": 2, "prefill_s": 0.4},
        }
    ]
    assert (document["rules"], document["local_only"], document["outcome"]) == (["stay"], False, "answered")
    assert (document["at"], document["duration_s"], document["status"]) == (AT_S, 2.5, 200)


def test_a_record_reads_back_as_it_was() -> None:
    """What `replay` reads is what was written, facts and all."""
    facts: Facts = Facts(
        online=False, loads={"local/a": Load(running_count=2, parallel=2)}, cached={"local/a": 5}
    )
    made = record(facts=facts)
    noted = circumstances(facts, made.plan)
    decided = decision(call(max_cost_usd=0.5), made, ENDING, NOTHING, noted, prompts=True)

    assert msgspec.json.decode(written(decided), type=Decision) == decided


def test_not_a_word_of_the_call_is_kept() -> None:
    """Neither its text, its headers' values, its keys, nor an error's detail."""
    headers = {"x-other": CANARY, "authorization": CANARY, "cookie": CANARY, "x-api-key": CANARY}
    looked_at = config({"name": "a", "when": {"header": {"Authorization": ".*"}, "text": ["canary"]}})
    said = call(
        headers=headers,
        tools=({"type": "function", "function": {"name": CANARY}},),
        extra={"user": CANARY},
        prompts=(CANARY,),
    )

    document = written(decision(said, record(), ENDING, sought(looked_at), prompts=False))

    assert b"canary" not in document
    kept = msgspec.json.decode(document, type=Decision).features
    assert kept.header_names == ("x-other",)
    assert kept.headers == {}


def test_headers_that_rules_look_at_are_kept() -> None:
    """Also those deep inside a condition, whatever their case; of others, only that they were there."""
    rules = config(
        {"name": "a", "when": {"header": {"X-Private": "true"}}},
        {"name": "b", "when": {"any": [{"not": {"all": [{"header": {"x-team": ".*"}}]}}]}},
    )
    said = call(headers={"x-private": "true", "x-team": "red", "user-agent": "curl"})

    kept = decision(said, record(), ENDING, sought(rules), prompts=False).features

    assert kept.headers == {"x-private": "true", "x-team": "red"}
    assert kept.header_names == ("x-private", "x-team", "user-agent")


def test_what_conditions_on_the_text_said_is_kept() -> None:
    """By a hash of each pattern, whether or not its rule fired."""
    rules = config(
        {"name": "a", "when": {"text": ["canary", "sparrow"]}},
        {"name": "b", "when": {"alias": ["other"], "not": {"text": ["wo.ds"]}}},
    )

    kept = decision(call(), record(), ENDING, sought(rules), prompts=False).features

    assert kept.judged == {
        digest("text", "canary", denied=False): True,
        digest("text", "sparrow", denied=False): False,
        digest("text", "wo.ds", denied=True): True,
    }


def test_sizes_and_time_are_kept() -> None:
    """All that a condition can ask about a call besides its text."""
    said = call(
        prompts=("a", "b"),
        n=2,
        stream=True,
        features=frozenset({Feature.TOOLS, Feature.IMAGES}),
        deadline_s=9.0,
    )
    kept = decision(said, record(), ENDING, NOTHING, prompts=False).features

    assert (kept.minute_of_day, kept.weekday) == (22 * 60 + 45, 2)
    assert (kept.prompt_tokens, kept.message_count, kept.choices_count) == (7, 1, 4)
    assert (kept.has, kept.stream, kept.deadline_s) == (("images", "tools"), True, 9.0)
    assert (kept.operation, kept.principal, kept.path) == ("chat", "ann", "/v1/chat/completions")


def test_text_is_kept_only_if_switched_on() -> None:
    """Then all that conditions read, but no picture or sound, and token ids as their number."""
    parts: list[Any] = [TextPart("look"), ImagePart({"url": "data:x"}), AudioPart({"data": "x"})]
    said = call(messages=(Message(role="user", content=parts),), prompts=("say", (1, 2, 3)))

    on = decision(said, record(), ENDING, NOTHING, prompts=True).text
    off = decision(said, record(), ENDING, NOTHING, prompts=False).text

    assert on == Words(messages=(Message(role="user", content=[TextPart("look")]),), prompts=("say", 3))
    assert off is None


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"files": ["*.pem"]}, {"operation": Operation.TRANSCRIBE, "uploads": (UPLOAD,), "n": 2}),
        ({"text": ["dragon"]}, {"operation": Operation.IMAGE, "ask": Painting(negative="dragons"), "n": 2}),
        ({"has": ["images"]}, {"operation": Operation.MODERATE, "uploads": (UPLOAD,), "prompts": ("a",)}),
    ],
)
def test_what_held_of_files_and_details_holds_again(condition: dict[str, Any], said: dict[str, Any]) -> None:
    """With its text kept, a call that is planned again looks to rules as it did."""
    asked = call(messages=(), **said)
    holds = compiled(msgspec.convert(condition, Condition))
    document = written(decision(asked, record(), ENDING, NOTHING, prompts=True))

    made = again(msgspec.json.decode(document, type=Decision))

    assert holds(Subject(asked, Facts()))
    assert holds(Subject(made, Facts()))
    assert (made.ask, made.choices_count) == (asked.ask, asked.choices_count)


def test_sound_is_part_of_what_an_attempt_used() -> None:
    """In seconds, as the backend counted it."""
    made = record()
    made.attempts[-1].usage = Usage(0, 9, sound_s=12.5)

    used = decision(call(), made, ENDING, NOTHING).attempts[-1].usage

    assert used is not None
    assert used.sound_s == 12.5


def test_text_of_a_private_call_is_never_kept() -> None:
    """`store.prompts` does not hold for what may not leave the call."""
    document = written(decision(call(), record(local_only=True), ENDING, NOTHING, prompts=True))

    assert CANARY.encode() not in document


def test_facts_of_other_aliases_stay_out() -> None:
    """Only what concerns the plan's own steps and backends is kept."""
    facts = Facts(
        off={"cloud": "no token", "other": "no token"},
        down={"local/a": "it died", "local/z": "it died"},
        loads={"local/a": Load(waiting_count=1), "local/z": Load()},
    )
    kept = circumstances(facts, record().plan)

    assert (kept.off, kept.down) == ({"cloud": "no token"}, {"local/a": "it died"})
    assert list(kept.loads) == ["local/a"]


@pytest.mark.parametrize(
    ("error", "status", "last", "expected"),
    [
        ("refused_by_policy", 403, None, "refused"),
        ("no_backend_available", 503, None, "failed"),
        (None, 200, "answered", "answered"),
        ("client_gone", 499, "cancelled", "cancelled"),
        ("client_stall", 200, "cancelled", "cancelled"),
        ("cancelled", 499, "cancelled", "cancelled"),
        ("context_length_exceeded", 400, "refused", "refused"),
        ("stream_broken", 200, "broken", "broken"),
        ("backend_error", 502, "failed", "failed"),
    ],
)
def test_how_a_call_ended(error: str | None, status: int, last: Outcome | None, expected: str) -> None:
    """One word, from what the client was told and how the last attempt ended."""
    made = record()
    if last is None:
        made.attempts.clear()
    else:
        made.attempts[-1].outcome = last
    ending = Ending(at_s=AT_S, started_s=0, duration_s=1, status=status, error=error)

    assert outcome(made, ending) == expected


def test_facts_are_noted_at_the_calls_end() -> None:
    """What happens to a backend before the record is written does not change what is written."""
    down = {"local/a": "it died"}
    made = row(call(), record(facts=Facts(down=down)), ENDING, NOTHING, prompts=False)
    down.clear()

    assert made.document().facts.down == {"local/a": "it died"}


def test_large_calls_weigh_more_in_the_queue() -> None:
    """By their text, and by what they carry besides."""
    plain = row(call(), record(), ENDING, NOTHING, prompts=False)
    picture = row(call(features=frozenset({Feature.IMAGES})), record(), ENDING, NOTHING, prompts=False)

    assert picture.size_bytes > plain.size_bytes + 500_000


async def test_an_archive_keeps_and_finds(tmp_path: Path) -> None:
    """A record is found right after its call by its own principal, without the text that is kept."""
    store = await open_store(tmp_path / "router.sqlite3")
    archive = Archive(store.decisions, config(prompts=True, keep_days=9))
    archive.keep(call(), record(), status=200, error=None, duration_s=1.5)

    found = await archive.find("dec_1", "ann")

    assert found is not None
    document = msgspec.json.decode(found)
    assert (document["id"], document["duration_s"], document["features"]["alias"]) == ("dec_1", 1.5, "fast")
    assert CANARY.encode() not in found
    assert await archive.find("dec_1", "bob") is None
    assert store.decisions.keep_days == 9
    await store.close()
    with pytest.raises(RouterError, match="could not be read"):
        await _broken(archive, store.path)


async def _broken(archive: Archive, path: Path) -> None:
    path.write_bytes(b"nonsense" * 1000)  # noqa: ASYNC240 - a test's own file
    await archive.find("dec_1", "ann")


async def test_an_archive_follows_the_policy(tmp_path: Path) -> None:
    """After a reload, the headers that the new rules look at are kept."""
    store = await open_store(tmp_path / "router.sqlite3")
    archive = Archive(store.decisions, config())
    archive.follow(config({"name": "a", "when": {"header": {"x-team": ".*"}}}))
    archive.keep(call(headers={"x-team": "red"}), record(), status=200, error=None, duration_s=1.5)

    found = await archive.find("dec_1", "ann")

    assert found is not None
    assert msgspec.json.decode(found)["features"]["headers"] == {"x-team": "red"}
    await store.close()
