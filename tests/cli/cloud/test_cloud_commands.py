"""`hybrid-router cloud`: the account's side, asked of the emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from account_commands import Account, accounted

from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.emulator.settings import Settings

LORA = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
BGE = "@cf/baai/bge-base-en-v1.5"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One account for all."""
    with accounted(tmp_path_factory.mktemp("account"), Settings(queue_polls=0)) as found:
        yield found


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder as a trainer leaves it."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    weights = len(header).to_bytes(8, "little") + header + b"\0" * 4
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, "model_type": "mistral"}))
    return tmp_path


def test_a_fine_tune_is_made_filled_and_listed(account: Account, adapter: Path) -> None:
    """In one go or in two; the files arrive, and cannot be sent twice."""
    made = account.run("finetunes", "create", LORA, "one-go", "--from", str(adapter))
    empty = account.run("finetunes", "create", LORA, "two-goes", "--description", "for SQL")
    filled = account.run("finetunes", "upload", "two-goes", str(adapter))
    again = account.run("finetunes", "upload", "two-goes", str(adapter))
    listed = json.loads(account.run("finetunes", "list", "--json").stdout)

    assert (made.exit_code, empty.exit_code, filled.exit_code, again.exit_code) == (0, 0, 0, 1)
    assert "cloud finetunes upload two-goes FOLDER" in empty.stdout
    assert {(row["name"], row["model"]) for row in listed} == {("one-go", LORA), ("two-goes", LORA)}
    kept = {each.name: each.assets for each in account.running.account.finetunes._own}
    assert kept["one-go"] == kept["two-goes"] == {"adapter_model.safetensors", "adapter_config.json"}


def test_everybodys_fine_tunes_are_listed(account: Account) -> None:
    """Those that Cloudflare shows all accounts."""
    assert "cf-public-magicoder" in account.run("finetunes", "list", "--public").stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("adapter_config.json", '{"r": 8, "model_type": "gpt2"}', "model_type is 'gpt2'"),
        ("adapter_config.json", '{"r": 64, "model_type": "llama"}', "r is 64"),
        ("adapter_config.json", "[]", "model_type is None"),
        ("adapter_config.json", "{", "is no JSON"),
        ("adapter_model.safetensors", "PK\x03\x04 a pickle in a zip", "is no safetensors file"),
        ("adapter_model.safetensors", None, "lacks adapter_model.safetensors"),
    ],
)
def test_files_that_would_be_refused_are_not_sent(
    account: Account, adapter: Path, name: str, content: str | None, said: str
) -> None:
    """What is wrong is said before a fine-tune is made of it."""
    if content is None:
        (adapter / name).unlink()
    else:
        (adapter / name).write_text(content)

    result = account.run("finetunes", "create", LORA, "wrong", "--from", str(adapter))

    assert result.exit_code == 2
    assert said in result.stderr
    assert "wrong" not in account.run("finetunes", "list").stdout


def test_a_model_that_takes_none_is_refused(account: Account) -> None:
    """In the account's words, with exit 1."""
    result = account.run("finetunes", "create", BGE, "vectors")

    assert result.exit_code == 1
    assert "Workers AI" in result.stderr


def test_the_search_goes_through_every_page(account: Account) -> None:
    """As many as the catalogue lists, each once; filters narrow it."""
    listed = [model.id for model in catalogue.load().models if not model.gone]

    rows = json.loads(account.run("models", "search", "--json").stdout)
    found = account.run("models", "search", "--task", "Translation", "m2m").stdout

    assert sorted(row["name"] for row in rows) == sorted(listed)
    assert found.split() == ["@cf/meta/m2m100-1.2b", "(Translation)"]


def test_a_schema_is_shown(account: Account) -> None:
    """Both sides of it; of no model: what to do."""
    shown = json.loads(account.run("models", "schema", BGE).stdout)
    unknown = account.run("models", "schema", "@cf/no/such")

    known = catalogue.load()
    assert shown["input"] == known.input_schema(known.by_id()[BGE])
    assert shown["output"] == known.output_schema(known.by_id()[BGE])
    assert unknown.exit_code == 1
    assert "Workers AI has no model @cf/no/such: hybrid-router cloud models search" in unknown.stderr


def test_a_name_of_the_command_line_is_not_looked_for_in_router_yaml(
    account: Account, adapter: Path, tmp_path: Path
) -> None:
    """It is repeated, as what it is, with the command that lists the others."""
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    told = [
        account.run("finetunes", "upload", "nope", str(adapter)),
        account.run("finetunes", "create", "@cf/no/such", "mine"),
        account.run("batch", "@cf/no/such", str(tmp_path / "in.jsonl")),
        account.run("batch", "@cf/no/such", "--resume", "some-id"),
    ]
    old = account.run("batch", "@cf/meta/llama-2-7b-chat-fp16", str(tmp_path / "in.jsonl"))

    assert [each.exit_code for each in (*told, old)] == [1] * 5
    assert old.stderr.startswith("Workers AI has retired @cf/meta/llama-2-7b-chat-fp16: ")
    assert told[0].stderr.startswith("Workers AI has no fine-tune nope: hybrid-router cloud finetunes list")
    assert all("@cf/no/such" in each.stderr and "cloud models search" in each.stderr for each in told[1:])
    assert not any("router.yaml" in each.stderr for each in told)


def test_documents_become_markdown(account: Account, tmp_path: Path) -> None:
    """Each in its own file; one that cannot be read fails alone, and the command says so."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.exe").write_bytes(b"MZ")
    out = tmp_path / "out"

    mixed = account.run("markdown", str(tmp_path / "a.csv"), str(tmp_path / "b.exe"), "--to", str(out))
    plain = account.run("markdown", "--format", "text", str(tmp_path / "a.csv"))

    assert mixed.exit_code == 1
    assert "unsupported file type" in mixed.stderr
    assert "| 1 | 2 |" in (out / "a.csv.md").read_text()
    assert plain.exit_code == 0
    assert plain.stdout.startswith("| x | y |")


def test_every_line_of_a_batch_is_answered(account: Account, tmp_path: Path) -> None:
    """In the lines' order, with what the account says of each; a wrong one fails alone."""
    lines = [{"text": "a", "external_reference": "first"}, {"text": 3}, {"text": ["b", "c"]}]
    (tmp_path / "in.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines) + "\n")
    out = tmp_path / "out.jsonl"

    result = account.run("batch", BGE, str(tmp_path / "in.jsonl"), "--to", str(out))

    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(each["id"], each["success"]) for each in answers] == [(0, True), (1, False), (2, True)]
    assert answers[0]["external_reference"] == "first"
    assert answers[2]["result"]["shape"] == [2, 768]
    assert answers[1]["errors"][0]["code"] == 5006
    assert result.exit_code == 1
    assert "put in: " in result.stderr


def test_a_batch_is_resumed_by_what_was_told(account: Account, tmp_path: Path) -> None:
    """Whoever gave up waiting gets its answers later, with the lines that they belong to."""
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    told = account.run("batch", BGE, str(tmp_path / "in.jsonl")).stderr.split()[2]

    again = account.run("batch", BGE, "--resume", f"{told}@40")

    assert again.exit_code == 0
    assert json.loads(again.stdout)["id"] == 40


def test_who_waits_no_longer_is_told_how_to_go_on(tmp_path: Path) -> None:
    """By the command that waits again, with the batch's id."""
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    with accounted(tmp_path, Settings(queue_polls=100)) as slow:
        result = slow.run("batch", BGE, str(tmp_path / "in.jsonl"), "--within", "1")

    name = result.stderr.split()[2]
    put_in, given_up = result.stderr.splitlines()
    assert (result.exit_code, put_in) == (1, f"put in: {name} (1 lines)")
    assert given_up == (
        f"batch {name} was not done in 1 s and runs on; to go on: "
        f"hybrid-router cloud batch --resume {name} {BGE}"
    )


def test_lines_that_are_no_input_are_named(account: Account, tmp_path: Path) -> None:
    """Before anything is put in."""
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n["b"]\n')

    result = account.run("batch", BGE, str(tmp_path / "in.jsonl"))

    assert result.exit_code == 2
    assert "line 2 is no JSON object" in result.stderr
    assert "put in" not in result.stderr


def test_a_wrong_token_is_told_and_not_shown(account: Account) -> None:
    """With what to do, and exit 1."""
    result = account.run("finetunes", "list", token="canary-token")

    assert result.exit_code == 1
    assert "does not accept the API token" in result.stderr
    assert "canary" not in result.output


def test_the_account_has_to_be_found(account: Account, tmp_path: Path) -> None:
    """A backend that is off says why; one that is not there, what there is."""
    other = account.run("--backend", "cff", "models", "search")
    off = tmp_path / "router.yaml"
    off.write_text(account.config.read_text().replace("CF_TOKEN", "NOT_SET"))
    result = account.command("cloud", "--config", str(off), "models", "search")

    assert (other.exit_code, result.exit_code) == (2, 2)
    assert "has no backend cff of type workers_ai" in other.stderr
    assert "cf is off: no token: set NOT_SET" in result.stderr
