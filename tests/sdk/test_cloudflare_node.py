"""Cloudflare's own Node package against the emulator and the router's dialect, all in one Node process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from two_sides import CHAT, TRANSLATOR, Side, both_sides

from hybrid_router.emulator.stand_ins import png

NODE = Path(__file__).parents[1] / "node"
WITHIN_S = 60.0

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine"),
    pytest.mark.skipif(
        not (NODE / "node_modules" / ".package-lock.json").is_file(),
        reason="the package cloudflare is not installed: npm ci --prefix tests/node",
    ),
]


def _told(side: Side) -> dict[str, str]:
    return asdict(side) | {"gateway_url": side.gateway_url}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[dict[str, Any]]:
    """What the package saw of each side."""
    async with both_sides(tmp_path_factory.mktemp("node")) as sides:
        asked = {
            "sides": {"emulator": _told(sides.emulator), "router": _told(sides.router)},
            "picture": list(png.picture("a cat", 16, 16)),
        }
        process = await asyncio.create_subprocess_exec(
            "node", "checks.js", json.dumps(asked), cwd=NODE, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, err.decode()
        yield json.loads(out)


@pytest.fixture(params=["emulator", "router"])
def side(request: pytest.FixtureRequest, seen: dict[str, Any]) -> dict[str, Any]:
    """What it saw of one."""
    told: dict[str, Any] = seen[request.param]
    return told


async def test_node_reads_texts_and_vectors(side: dict[str, Any]) -> None:
    """A text, a translation and vectors, out of the envelope."""
    assert side["text"].strip() == "1 2 3 4"
    assert side["translation"] == "[de] good morning"
    assert side["vectors"] == [2, 384]


async def test_node_reads_a_stream(side: dict[str, Any]) -> None:
    """As it arrives: pieces of the text and the mark of the end."""
    lines = [line.removeprefix("data: ") for line in side["stream"]["body"].split("\n") if line]

    assert side["stream"]["type"].startswith("text/event-stream")
    assert lines.pop() == "[DONE]"
    assert "".join(json.loads(line)["response"] for line in lines).strip() == "1 2 3 4"


async def test_node_sends_and_reads_files(side: dict[str, Any]) -> None:
    """A picture is classified, speech is heard again, a picture is painted."""
    painted = base64.b64decode(side["picture"]["base64"])

    assert len(side["labels"]) == 5
    assert side["speech"] == "good morning to you"
    assert side["picture"]["type"] == "image/png"
    assert Image.open(io.BytesIO(painted)).size == (256, 320)


async def test_node_lists_the_catalogue_to_its_end(side: dict[str, Any]) -> None:
    """Page after page: each model once, all of one task; and a model's schema has both halves."""
    assert CHAT in side["models"]
    assert TRANSLATOR not in side["models"]
    assert len(side["models"]) == len(set(side["models"])) > 5
    assert sorted(side["schema"]) == ["input", "output"]


async def test_node_types_the_errors(side: dict[str, Any]) -> None:
    """By status, with Cloudflare's codes."""
    assert side["errors"] == {
        "token": {"type": "AuthenticationError", "status": 401, "code": 10000},
        "model": {"type": "BadRequestError", "status": 400, "code": 5007},
        "input": {"type": "BadRequestError", "status": 400, "code": 5006},
        "address": {"type": "NotFoundError", "status": 404, "code": 7000},
    }


async def test_node_reads_and_marks_a_gateways_log(side: dict[str, Any]) -> None:
    """The entry of a call through the gateway's host, with what was said about it."""
    told = {**side["logs"], "said": side["logs"]["said"].strip()}

    assert told == {"said": "1 2 3", "provider": "workers-ai", "tokens_out": 3, "feedback": -1, "score": 10}


async def test_node_makes_an_adapter_and_uses_it(seen: dict[str, Any]) -> None:
    """Its two files are uploaded as the package uploads them, and a call names it."""
    made = seen["emulator"]["finetune"]

    assert made["listed"] == ["by-node"]
    assert made["said"].strip() == "tuned"


async def test_node_converts_a_file(seen: dict[str, Any]) -> None:
    """By the package's own method, which names the field its own way."""
    (converted,) = seen["emulator"]["markdown"]

    assert "# Title" in converted
