"""What a valid router.yaml names and nobody has: warned of by `check`, logged by `serve`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.cli.check import command

ROOT = Path(__file__).parents[2]
LOCAL = """\
backends:
  local:
    type: local
    models:
      a: { weights: smollm }
      smollm2: {}
aliases: { x: { try: [local/a, local/smollm2] } }
"""
MANIFEST = f"models: {{smollm2: {{file: a.gguf, sha256: '{'0' * 64}', size_bytes: 1}}}}\n"
CLOUD = """\
server: { listen: 127.0.0.1:0 }
backends:
  cf: { type: workers_ai, account_id: { env: NOT_SET }, token: { env: NOT_SET } }
aliases: { x: { try: cf/MODEL } }
"""
DATED = f"is not among the models of Workers AI (as of {catalogue.load().dated})"


def check(folder: Path, text: str, *options: str) -> Result:
    """`hybrid-router check` of a file in `folder`."""
    (folder / "router.yaml").write_text(text)
    return CliRunner().invoke(command, ["--config", str(folder / "router.yaml"), *options])


def warnings(folder: Path, text: str) -> list[str]:
    """What `check` warns of, without the file's name; it passes all the same."""
    result = check(folder, text)
    assert result.exit_code == 0
    assert "is valid" in result.stdout
    begin = f"warning: {folder}/router.yaml:"
    lines = result.stderr.splitlines()
    assert all(line.startswith(begin) for line in lines)
    return [line.removeprefix(begin) for line in lines]


def test_an_entry_for_another_engine_is_doubted(tmp_path: Path) -> None:
    """The manifest says who opens a model; a configuration that says otherwise is warned of."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "manifest.yaml").write_text(MANIFEST)
    text = LOCAL.replace("a: { weights: smollm }", "a: { engine: whisper, weights: smollm2 }")

    told = [line for line in warnings(tmp_path, text) if "for the engine" in line]

    assert len(told) == 1
    assert told[0].endswith("has smollm2 for the engine llama, not whisper")


def test_the_shipped_file_leaves_no_doubt() -> None:
    """What is shipped names nothing that is not there, strictly."""
    result = CliRunner().invoke(command, ["--config", str(ROOT / "router.yaml"), "--strict"])

    assert (result.exit_code, result.stderr) == (0, "")


def test_weights_that_the_manifest_lacks(tmp_path: Path) -> None:
    """Named with their place and with what there is."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/manifest.yaml").write_text(MANIFEST)

    assert warnings(tmp_path, LOCAL) == [
        f"5:21: backends.local.models.a.weights: {tmp_path}/models/manifest.yaml lists no smollm; "
        "did you mean smollm2?"
    ]


def test_a_model_without_weights_stands_for_its_own_name(tmp_path: Path) -> None:
    """`smollm3: {}` means an entry smollm3; the warning stands where the model does."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/manifest.yaml").write_text(MANIFEST)

    (warning,) = warnings(tmp_path, LOCAL.replace("smollm2", "other").replace("smollm }", "smollm2 }"))

    assert warning.startswith("6:14: backends.local.models.other.weights: ")
    assert warning.endswith("lists no other; there is smollm2")


def test_what_lies_beside_the_weights_is_looked_up_too(tmp_path: Path) -> None:
    """Adapters, projector and draft model are files of the manifest like any other."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/manifest.yaml").write_text(MANIFEST)
    beside = "projector: eyes, drafting: { tokens: 4, weights: tiny }, adapters: { sql: lora }"

    found = warnings(tmp_path, LOCAL.replace("weights: smollm }", f"weights: smollm2, {beside} }}"))

    assert [line.split(": ")[1] for line in found] == [
        "backends.local.models.a.projector",
        "backends.local.models.a.drafting.weights",
        "backends.local.models.a.adapters.sql.weights",
    ]


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    """One warning for all models, at the key if it is written, with the path that was looked at."""
    missing = "so no local model can run: name the manifest in full"

    assert warnings(tmp_path, LOCAL) == [
        f"1:1: manifest: there is no {tmp_path}/models/manifest.yaml, {missing}"
    ]
    assert warnings(tmp_path, f"manifest: /nowhere.yaml\n{LOCAL}") == [
        f"1:11: manifest: there is no /nowhere.yaml, {missing}"
    ]


def test_a_manifest_that_is_wrong(tmp_path: Path) -> None:
    """Its first mistake is told; `models list` tells them all."""
    (tmp_path / "m.yaml").write_text("modells: {}\n")

    assert warnings(tmp_path, f"manifest: m.yaml\n{LOCAL}") == [
        "1:11: manifest: the manifest of model files is wrong, so no local model can run: "
        f"{tmp_path}/m.yaml:1: modells: unknown key"
    ]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("@cf/zai-org/glm-4.7-flahs", f"{DATED}; did you mean @cf/zai-org/glm-4.7-flash?"),
        ("@cf/baai/bge-smal-en-v1.5", f"{DATED}; did you mean @cf/baai/bge-small-en-v1.5?"),
        ("nothing-like-it", DATED),
        (
            "@cf/moonshotai/kimi-k2.5",
            "is deprecated since 2026-05-30; @cf/moonshotai/kimi-k2.6 answers in its place",
        ),
        (
            "@cf/microsoft/phi-2",
            "is deprecated since 2026-05-30: name @cf/meta/llama-3.2-3b-instruct in its place",
        ),
        ("@cf/facebook/detr-resnet-50", "is withdrawn"),
    ],
)
def test_a_cloud_model_that_is_not_there(tmp_path: Path, model: str, said: str) -> None:
    """Unknown, deprecated or withdrawn: with its successor, or the name that was meant."""
    assert warnings(tmp_path, CLOUD.replace("MODEL", model)) == [f"4:22: aliases.x.try[0]: {model} {said}"]


def test_a_backend_that_lists_its_models_is_warned_of_once(tmp_path: Path) -> None:
    """There the list is the place to mend, not every alias that draws on it."""
    text = CLOUD.replace("token:", "models: ['@cf/a/b'], token:").replace("MODEL", "@cf/a/b")

    (warning,) = warnings(tmp_path, text)

    assert warning.startswith("3:66: backends.cf.models[0]: @cf/a/b is not among")


def test_who_helps_to_translate_speech_is_looked_up_too(tmp_path: Path) -> None:
    """A model that is named as a helper is asked like any other."""
    helpers = "speech_translation: { identify: nothing-like-it, translate: '@cf/meta/m2m100-1.2' }, token:"
    text = CLOUD.replace("token:", helpers).replace("MODEL", "@cf/zai-org/glm-4.7-flash")

    assert [warning.split(": ", 1)[1] for warning in warnings(tmp_path, text)] == [
        f"backends.cf.speech_translation.identify: nothing-like-it {DATED}",
        f"backends.cf.speech_translation.translate: @cf/meta/m2m100-1.2 {DATED}; "
        "did you mean @cf/meta/m2m100-1.2b?",
    ]


def test_what_apps_ask_for_is_looked_up_too(tmp_path: Path) -> None:
    """A name or a pattern that no model of Cloudflare's has; those that are gone are what old apps name."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/manifest.yaml").write_text(MANIFEST)
    asked = ("@cf/mta/llama-3-8b-instruct", "@cf/mta/*", "@cf/meta/*", "@cf/microsoft/phi-2", "mine", "*")
    named = ", ".join(f"'{name}': x" for name in asked)
    text = LOCAL.replace("{ weights: smollm }", "{ weights: smollm2 }")

    found = warnings(tmp_path, f"{text}dialects: {{ workers_ai: {{ models: {{ {named} }} }} }}\n")

    assert [warning.split(": ", 1)[1] for warning in found] == [
        f"dialects.workers_ai.models.@cf/mta/llama-3-8b-instruct: @cf/mta/llama-3-8b-instruct {DATED}; "
        "did you mean @cf/meta/llama-3-8b-instruct?",
        f'dialects.workers_ai.models."@cf/mta/*": @cf/mta/* {DATED}',
    ]


def test_strict_makes_a_warning_a_failure(tmp_path: Path) -> None:
    """`--strict` exits 1 on a warning, and 2 on a mistake as ever."""
    assert check(tmp_path, LOCAL, "--strict").exit_code == 1
    assert check(tmp_path, "aliases: {}\n", "--strict").exit_code == 2


def test_serve_logs_a_cloud_model_in_doubt(tmp_path: Path) -> None:
    """It starts all the same: the model may be newer than the catalogue."""
    path = tmp_path / "router.yaml"
    path.write_text(CLOUD.replace("MODEL", "nothing-like-it"))
    arguments = [
        sys.executable,
        "-m",
        "hybrid_router",
        "serve",
        "--config",
        str(path),
        "--log-format",
        "json",
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert re.search("answers on", serving.stdout.readline())
        serving.terminate()
        _, logged = serving.communicate(timeout=15)

    lines = [json.loads(line) for line in logged.splitlines()]
    doubts = [line for line in lines if line["event"] == "model in doubt"]
    assert serving.returncode == 0
    assert [(line["level"], line["where"], line["message"]) for line in doubts] == [
        ("warning", f"{path}:4", f"nothing-like-it {DATED}")
    ]
