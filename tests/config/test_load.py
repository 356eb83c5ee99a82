"""router.yaml → `Loaded`: every kind of mistake, its place and its sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.load import ConfigErrors, load, loads
from hybrid_router.config.local_schema import Adapter, LlamaModel
from hybrid_router.config.schema import Key, TryStep

ROOT = Path(__file__).parents[2]
GOOD = """\
backends:
  local: {type: local, models: {small: {}}}
  cf: {type: workers_ai, account_id: {env: ACCOUNT}, token: {env: TOKEN}}
aliases:
  default: {try: [local/small, cf/@cf/meta/llama]}
"""


def problems(text: str) -> list[str]:
    """The lines of the error that `text` raises, without the file's name."""
    with pytest.raises(ConfigErrors) as caught:
        loads(text)
    return [line.removeprefix("router.yaml:") for line in str(caught.value).splitlines()]


def with_rule(rule: str) -> str:
    """A good configuration with one rule, on line 7."""
    return f"{GOOD}rules:\n  - {rule}\n"


def test_the_shipped_file_loads_with_nothing_around_it() -> None:
    """router.yaml needs no environment; without an account the cloud is off and says what to set."""
    loaded = load(ROOT / "router.yaml", {})

    assert loaded.off == {
        "cloudflare": "no token and no account id: set CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID"
    }
    assert loaded.secrets == {}
    assert list(loaded.config.aliases) == ["default", "cloud-first", "local-only"]
    local = loaded.config.backends["local"]
    assert isinstance(local, LocalBackend)
    assert local.models["smollm2"].weights == "smollm2-135m-instruct"


def test_the_shipped_file_with_an_account_has_nothing_off() -> None:
    """Two environment variables switch the cloud on."""
    environ = {"CLOUDFLARE_ACCOUNT_ID": "0" * 32, "CLOUDFLARE_API_TOKEN": "a-long-enough-token"}

    loaded = load(ROOT / "router.yaml", environ)

    assert loaded.off == {}
    assert sorted(loaded.secrets) == ["cloudflare.account_id", "cloudflare.token"]


def test_values_are_read_as_the_schema_says() -> None:
    """Durations, sizes, truth values, numbers and short forms become what the structs declare."""
    loaded = loads(
        GOOD.replace("small: {}", "small: {parallel: 4, preload: false, gpu_layers: -1}")
        + "server: {body_limit: 1MiB, drain: 1.5m, keys: [{name: ann, sha256: "
        + "1" * 64
        + "}]}\nlog: {calls: true}\n"
    )

    local = loaded.config.backends["local"]
    assert isinstance(local, LocalBackend)
    small = local.models["small"]
    assert isinstance(small, LlamaModel)
    assert (small.parallel, small.preload, small.gpu_layers) == (4, False, -1)
    assert (loaded.config.server.body_limit, loaded.config.server.drain) == (2**20, 90.0)
    assert loaded.config.server.keys == (Key(name="ann", sha256="1" * 64),)
    assert loaded.config.aliases["default"].try_[1] == TryStep(step="cf/@cf/meta/llama")
    assert loaded.config.aliases["default"].try_[1].backend == "cf"
    assert loaded.config.aliases["default"].try_[1].model == "@cf/meta/llama"


def test_a_local_model_may_say_how_it_is_opened() -> None:
    """Words that stand for themselves, sizes, and adapters in short and in full."""
    loaded = loads(
        GOOD.replace(
            "small: {}",
            "small: {parallel: auto, gpu_layers: 12, prefix_cache: {ram: off, disk: 2GiB}, "
            "adapters: {sql: sql-lora, pirate: {weights: p-lora, scale: 0.5}}}",
        ).replace("[local/small, cf/@cf/meta/llama]}", "local/small, adapters: {sql: 0.8}, truncate: oldest}")
    )

    local = loaded.config.backends["local"]
    assert isinstance(local, LocalBackend)
    small = local.models["small"]
    assert isinstance(small, LlamaModel)
    assert (small.parallel, small.gpu_layers) == ("auto", 12)
    assert (small.prefix_cache.ram, small.prefix_cache.disk) == ("off", 2 * 2**30)
    assert small.adapters == {
        "sql": Adapter(weights="sql-lora"),
        "pirate": Adapter(weights="p-lora", scale=0.5),
    }
    alias = loaded.config.aliases["default"]
    assert (alias.adapters, alias.truncate) == ({"sql": 0.8}, "oldest")


def test_an_adapter_that_a_step_lacks_is_named() -> None:
    """It would leave the step out of every plan."""
    assert problems(
        GOOD.replace("small: {}", "small: {adapters: {sql: sql-lora}}").replace(
            "[local/small, cf/@cf/meta/llama]}", "local/small, adapters: {sqk: 1}}"
        )
    ) == ["5:42: aliases.default.adapters.sqk: local/small has no such adapter; did you mean sql?"]


def test_one_word_stands_for_a_list_of_one() -> None:
    """`only: local` and `try: local/small` need no brackets."""
    loaded = loads(
        GOOD.replace("[local/small, cf/@cf/meta/llama]", "local/small") + "rules: [{name: a, only: local}]"
    )

    assert loaded.config.aliases["default"].try_ == (TryStep(step="local/small"),)
    assert loaded.config.rules[0].only == ("local",)


def test_what_is_written_counts_not_what_yaml_makes_of_it() -> None:
    """Where text is wanted, `true`, `on` and `007` are text: nobody has to know YAML's surprises."""
    loaded = loads(with_rule("{name: a, when: {header: {x-a: true, x-b: on, x-c: 007}}, only: local}"))

    assert loaded.config.rules[0].when.header == {"x-a": "true", "x-b": "on", "x-c": "007"}


def test_a_literal_account_id_is_kept_with_the_secrets() -> None:
    """Every account id is found in one place, wherever it came from."""
    loaded = loads(GOOD.replace("{env: ACCOUNT}", "a" * 32))

    assert loaded.secrets["cf.account_id"].reveal() == "a" * 32
    assert loaded.off == {"cf": "no token: set TOKEN"}
    assert isinstance(loaded.config.backends["cf"], WorkersAIBackend)


def test_all_mistakes_are_told_at_once() -> None:
    """Types, names, waits and addresses: one run names them all, in the file's order."""
    text = """\
server: {listen: "0.0.0.0:80", drain: 5}
backends:
  local: {type: local, models: {small: {queue: -1}}}
  cf: {type: workers_ai, account_id: {env: A}, token: {env: T}, unknown: 1}
aliases:
  a: {try: [bad, local/smal, cf/x, gone/x]}
rules:
  - {name: r, only: nowhere}
"""

    assert [line.split(" ")[0] for line in problems(text)] == [
        "1:18:", "1:39:", "3:48:", "4:65:", "6:13:", "6:18:", "6:36:", "8:21:",
    ]  # fmt: skip


def test_a_backend_with_a_mistake_of_its_own_exists_all_the_same() -> None:
    """One mistake makes one line: what names a badly written backend is not a second mistake."""
    text = GOOD.replace("type: local", "type: lokal") + "rules: [{name: a, first: [local, cf]}]\n"

    assert len(problems(text)) == 1


def test_duplicate_keys_and_names_are_refused() -> None:
    """The second of two equal keys does not silently win."""
    key = "{name: ann, sha256: " + "1" * 64 + "}"
    assert problems(GOOD + "log: {level: info}\nlog: {level: debug}\n") == [
        "7:1: log: is written twice; the other one is in line 6"
    ]
    assert problems(GOOD + "rules: [{name: a, only: cf}, {name: a, only: cf}]\n") == [
        "6:37: rules[1].name: a is used above; each needs its own"
    ]
    assert [line.split(": ", 1)[1] for line in problems(GOOD + f"server: {{keys: [{key}, {key}]}}\n")] == [
        "server.keys[1].name: ann is used above; each needs its own",
        f"server.keys[1].sha256: {'1' * 64} is used above; each needs its own",
    ]


def test_words_with_a_meaning_are_no_names() -> None:
    """`local` is this machine, `cloud` the others, and `local` also who calls without a key."""
    cloud = "type: workers_ai, account_id: {env: A}, token: {env: T}"
    assert problems(f"backends: {{local: {{{cloud}}}}}\naliases: {{a: {{try: local/x}}}}\n") == [
        "1:12: backends.local: local means this machine; a cloud needs another name"
    ]
    assert problems(f"backends: {{cloud: {{{cloud}}}}}\naliases: {{a: {{try: cloud/x}}}}\n") == [
        "1:12: backends.cloud: cloud means every cloud in rules; take another name"
    ]
    assert problems(GOOD + "server: {keys: [{name: local, sha256: " + "1" * 64 + "}]}\n") == [
        "6:24: server.keys[0].name: local is who calls without a key; take another name"
    ]


def test_a_key_that_exists_may_be_named_in_a_rule() -> None:
    """With keys, rules name keys; without, `local` is the only caller."""
    keys = "server: {keys: [{name: ann, sha256: " + "1" * 64 + "}]}\n"

    assert loads(keys + with_rule("{name: a, when: {key: ann}, only: local}")).config.rules
    assert loads(with_rule("{name: a, when: {key: local}, only: local}")).config.rules


@pytest.mark.parametrize("listen", ["127.0.0.2:1", "localhost:0", "'[::1]:8080'"])
def test_loopback_needs_no_keys(listen: str) -> None:
    """Every spelling of this machine alone may be listened on without keys."""
    assert loads(GOOD + f"server: {{listen: {listen}}}\n").config.server.keys == ()


def test_a_wider_address_is_fine_with_keys() -> None:
    """With a key the router may listen anywhere."""
    server = "server: {listen: '0.0.0.0:8080', keys: [{name: ann, sha256: " + "1" * 64 + "}]}\n"

    assert loads(GOOD + server).config.server.listen == "0.0.0.0:8080"


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("timeouts: {first_token: 700s}\n", "first_token (700s) is longer than total (600s)"),
        ("timeouts: {load: 70s}\n", "load (70s) is longer than first_token (60s)"),
        ("timeouts: {connect: 61s}\n", "connect (61s) is longer than load (60s)"),
        (
            "timeouts: {total: 9s, load: 6s, first_token: 9s}\n",
            "between_tokens (30s) is longer than total (9s)",
        ),
    ],
)
def test_waits_that_cannot_fit_are_refused_where_they_meet(where: str, line: str) -> None:
    """Each step is checked with the waits that hold for it, whoever wrote them."""
    found = problems(where + GOOD)

    assert found[0] == f"6:19: aliases.default.try[0]: timeouts that cannot work: {line}"


def test_a_cloud_has_no_load() -> None:
    """`load` may be longer than a cloud's `first_token`: nothing is loaded there."""
    text = GOOD.replace("TOKEN}}", "TOKEN}, timeouts: {first_token: 20s}}")

    assert loads(text + "timeouts: {load: 60s}\n").off.keys() == {"cf"}


def test_nothing_but_what_is_needed() -> None:
    """Without backends or aliases there is nothing to check further."""
    assert problems("log: {}") == [
        "1:1: needs `aliases`: a mapping",
        "1:1: needs `backends`: a mapping",
    ]
    assert problems("[]") == [
        "1:1: wants a mapping of backends, aliases, server, manifest, timeouts, rules, "
        "dialects, gateways, log, residency, store, watch, not a list"
    ]


def test_the_error_names_the_file_as_it_was_named(tmp_path: Path) -> None:
    """Editors can jump to `path:line:column`."""
    path = tmp_path / "other.yaml"
    path.write_text("backends: {}\n")

    with pytest.raises(ConfigErrors) as caught:
        load(path, {})

    assert str(caught.value).splitlines()[0].startswith(f"{path}:1:")
