"""Yesterday's calls under another policy, and the names of conversations, with the real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from private_calls import LABELS, PUBLIC, RULES, SERVER, keyed, say
from records import record_of
from router_policy import CLOUD_MODEL, policy
from router_process import Emulator, Router, stopped_at_end
from wire_client import Answer, ask

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

SESSION = "x-session-affinity"
LOOSE = f"aliases:\n  loose: {{ try: cloudflare/{CLOUD_MODEL}, affinity: false }}\n"


@pytest.fixture(scope="module")
def keeping(manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A service with labels and keys."""
    text = policy(manifest, emulator.base_url, server=SERVER).replace("aliases:\n", LOOSE, 1)
    config = text.replace("rules:", f"rules:{RULES.rstrip()}", 1)
    router = Router(config, tmp_path_factory.mktemp("keeping"))
    with stopped_at_end(router):
        yield router


@pytest.fixture
def cloud(emulator: Emulator) -> Emulator:
    """The cloud, with nothing planned and nothing seen."""
    emulator.fault()
    emulator.calm()
    return emulator


def replayed(router: Router, without: str = "") -> tuple[int, dict[str, Any]]:
    """Exit code and report of the stored calls under a policy without the rules that hold `without`."""
    lines = (router.folder / "router.yaml").read_text().splitlines()
    kept = [
        line for line in lines if not (without and line.startswith("  - { name: keep_") and without in line)
    ]
    (router.folder / "new.yaml").write_text("\n".join(kept) + "\n")
    command = [sys.executable, "-m", "hybrid_router", "replay", "--policy", "new.yaml", "--json"]
    ended = subprocess.run(command, cwd=router.folder, env=os.environ, capture_output=True, check=False)
    return ended.returncode, json.loads(ended.stdout)


async def test_a_replay_names_the_private_calls_that_would_leave(keeping: Router, cloud: Emulator) -> None:
    """None under the policy in force, one without its rule, all without all; text is not needed for it."""
    told: dict[str, Answer] = {}
    for name, label in LABELS.items():
        told[name] = await say(keeping, label, path=label.paths[0])
        assert told[name].served_by[0] == "local"
    told["public"] = await say(keeping, PUBLIC)
    ids = {name: answer.headers["x-router-decision"] for name, answer in told.items()}
    for name, answer in told.items():
        key = PUBLIC.key if name == "public" else LABELS[name].key
        await record_of(keeping, answer, keyed(key))
    home = {ids[name] for name in LABELS}

    code, same = replayed(keeping)
    assert (code, same["leaving"], same["may_leave"], same["moved_count"]) == (0, [], [], 0)
    code, one_less = replayed(keeping, "keep_the_project")
    assert (code, one_less["leaving"], one_less["moved_count"]) == (1, [ids["text"]], 1)
    code, none = replayed(keeping, "keep_")
    assert (code, set(none["leaving"])) == (1, home)


def turns(alias: str, topic: str) -> list[dict[str, Any]]:
    """Two turns of a conversation."""
    first = [
        {"role": "system", "content": "You answer in a few words, and in English, whatever you are asked."},
        {"role": "user", "content": f"Tell me about {topic}, and then about what has become of it since."},
    ]
    later = [*first, {"role": "assistant", "content": "It grew."}, {"role": "user", "content": "count to 3"}]
    return [{"model": alias, "messages": said, "max_tokens": 4, "temperature": 0} for said in (first, later)]


async def test_a_conversation_has_one_name_in_the_cloud(keeping: Router, cloud: Emulator) -> None:
    """The same for all its turns, another for others' and other ones, none where affinity is off."""
    said = [
        ("bob", body)
        for alias, topic in (("cloud-only", "Rome"), ("cloud-only", "Oslo"), ("loose", "Rome"))
        for body in turns(alias, topic)
    ]
    said.append(("paul", turns("cloud-only", "Rome")[0]))
    for key, body in said:
        answer = await ask(keeping, body, headers=keyed(key))
        assert answer.served_by == ("cloudflare", "1")

    names = [seen["headers"].get(SESSION) for seen in cloud.calls()]
    rome, rome_again, oslo, oslo_again, *loose, of_another = names
    assert (rome, oslo) == (rome_again, oslo_again)
    assert len({rome, oslo, of_another} - {None}) == 3
    assert loose == [None, None]
    assert not any(word in str(name).lower() for name in names for word in ("rome", "oslo", "bob"))
