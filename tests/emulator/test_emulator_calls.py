"""The list of calls seen."""

from __future__ import annotations

from hybrid_router.emulator.calls import CallLog, without_secrets


async def test_old_bodies_make_room_for_new_ones() -> None:
    """The calls stay, with all else that was noted of them."""
    log = CallLog(kept_bytes=100)
    for number in range(3):
        seen = log.open(f"/{number}", {"content-length": "40"})
        seen.body = {"number": number}
        log.close(seen, "answered")

    assert [(seen.path, seen.body) for seen in log.calls] == [
        ("/0", None),
        ("/1", {"number": 1}),
        ("/2", {"number": 2}),
    ]


async def test_forgotten_calls_take_no_room() -> None:
    """Those that run keep theirs."""
    log = CallLog(kept_bytes=100)
    ended, running = (log.open(path, {"content-length": "40"}) for path in ("/ended", "/running"))
    running.body = "here"
    log.close(ended, "answered")
    log.clear()
    log.open("/next", {"content-length": "60"})

    assert [(seen.path, seen.body) for seen in log.calls] == [("/running", "here"), ("/next", None)]


def test_secrets_are_hidden_wherever_they_are() -> None:
    """In objects within lists, too; files as lists of integers stay as they are."""
    body = {"image": [1, 2], "messages": [{"content": [{"api_key": "canary"}]}, [{"token": "canary"}]]}

    assert without_secrets(body) == {
        "image": [1, 2],
        "messages": [{"content": [{"api_key": "***"}]}, [{"token": "***"}]],
    }
