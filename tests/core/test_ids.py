"""Ids that nobody can guess or count."""

from __future__ import annotations

import re

from hybrid_router.core import ids

ID = re.compile(r"req_[0-9a-f]{32}\Z")


def test_a_supply_never_gives_the_same_id_twice() -> None:
    """Also where one fetch of random bytes ends and the next begins."""
    supply = ids.Supply()

    drawn = [supply.new("req_") for _ in range(1000)]

    assert len(set(drawn)) == 1000
    assert all(ID.match(one) for one in drawn)


def test_two_supplies_have_nothing_in_common() -> None:
    """Each fetches for itself."""
    one, other = ids.Supply(), ids.Supply()

    assert not {one.new("") for _ in range(200)} & {other.new("") for _ in range(200)}


def test_siblings_share_their_digits() -> None:
    """So that a request, its answer and its decision find each other in a log."""
    request_id = ids.new("req_")

    assert ids.sibling(request_id, "dec_") == "dec_" + request_id.removeprefix("req_")
    assert ids.sibling(ids.sibling(request_id, "chatcmpl-"), "dec_") == ids.sibling(request_id, "dec_")
