"""Every key of router.yaml: its type, default and meaning, in one place.

The loader (`config/load.py`) walks these structs; `Doc` texts are printed by `hybrid-router check --keys`
and a test demands each key in docs/configuration.md.  A key that does nothing is a bug.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

from msgspec import Struct, field

from hybrid_router.config.backend_schema import Timeouts, Waits
from hybrid_router.config.cloud_schema import BackendConfig
from hybrid_router.config.front_schema import Dialects, FrontGateway
from hybrid_router.config.kinds import (
    AliasName,
    BackendName,
    Duration,
    Finding,
    HeaderName,
    Name,
    Regex,
    SizeBytes,
    StepName,
)
from hybrid_router.config.marks import Bounds, Doc, NonEmpty, Pattern, Short
from hybrid_router.core.secret import Secret


class Key(Struct, frozen=True, kw_only=True):
    """One client key."""

    name: Annotated[Name, Doc("Whose key it is: the principal in rules and logs.")]
    sha256: Annotated[
        str,
        Pattern(r"[0-9a-f]{64}", "64 hexadecimal digits, as `hybrid-router keys new` prints them"),
        Doc("SHA-256 of the key. The key itself is never stored."),
    ]


class Server(Struct, frozen=True, kw_only=True):
    """The listening side."""

    listen: Annotated[str, Doc("host:port. Anything but a loopback address needs `keys`.")] = "127.0.0.1:8080"
    allowed_hosts: Annotated[
        tuple[str, ...],
        Doc(
            "More Host header names that are answered (no ports): every name and address that clients use. "
            "This machine's own (localhost, 127.0.0.1, ::1, the listening address) always are."
        ),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...], Doc("Origin header values of web pages that may call. None by default.")
    ] = ()
    keys: Annotated[
        tuple[Key, ...], Doc("Client keys. None: whoever reaches the loopback address may call.")
    ] = ()
    body_limit: Annotated[SizeBytes, Doc("Largest request body.")] = 8 * 2**20
    header_timeout: Annotated[Duration, Doc("A connection must bring a whole request head within this.")] = (
        10.0
    )
    body_timeout: Annotated[Duration, Doc("And its body within this.")] = 30.0
    upload_limit: Annotated[SizeBytes, Doc("Largest form with files: recordings, pictures.")] = 100 * 2**20
    upload_timeout: Annotated[Duration, Doc("Such a form must arrive within this.")] = 300.0
    uploads_memory: Annotated[
        SizeBytes, Doc("Files of all running calls together; they are kept in memory, never on a disk.")
    ] = 512 * 2**20
    client_stall: Annotated[Duration, Doc("A client that reads nothing for this long is cut off.")] = 30.0
    drain: Annotated[Duration, Doc("Calls in flight may finish for this long after SIGTERM.")] = 20.0


class TryStep(Struct, frozen=True, kw_only=True):
    """One entry of `try`; the short form is just `backend/model`."""

    step: Annotated[StepName, Doc("backend/model.")]
    timeouts: Annotated[Waits, Doc("For this step alone.")] = Waits()

    @property
    def backend(self) -> str:
        """The part before the first slash."""
        return self.step.partition("/")[0]

    @property
    def model(self) -> str:
        """What follows the first slash; it may hold more of them."""
        return self.step.partition("/")[2]


class Spill(Struct, frozen=True, kw_only=True):
    """When a busy step lets the others go first."""

    queue: Annotated[int | None, Bounds(at_least=1), Doc("So many calls wait for its model already.")] = None
    predicted_first_token: Annotated[Duration | None, Doc("Its first token is expected later than this.")] = (
        None
    )


class Treatment(Struct, frozen=True, kw_only=True):
    """How a call is run. An alias says it for its calls, a rule for those it holds for; the later wins."""

    on_break: Annotated[
        Literal["continue", "error"] | None,
        Doc("What happens to a stream that breaks: it goes on elsewhere (default), or ends with an error."),
    ] = None
    on_divergence: Annotated[
        Literal["splice", "error"] | None,
        Doc(
            "A stream that had to start anew elsewhere says something else: go on after the next sentence, "
            "or end with an error (default)."
        ),
    ] = None
    retries: Annotated[
        int | None,
        Bounds(at_least=0, at_most=5),
        Doc("How often a step is tried again before its first token. Default: 1."),
    ] = None
    retry_wait: Annotated[
        Duration | None,
        Doc("Longest wait before trying again; if told to wait longer: next step. Default: 2s."),
    ] = None
    hedge: Annotated[
        bool | None,
        Doc("Start the second step too when the first is slower than nine of ten calls. Default: false."),
    ] = None
    prefer: Annotated[
        Literal["listed", "fastest"] | None,
        Doc("Order of steps: as listed (default), or by the time the whole answer is expected to take."),
    ] = None
    spill_when: Annotated[Spill | None, Doc("A step this busy goes behind the others.")] = None
    max_cost_usd: Annotated[
        float | None, Bounds(at_least=0), Doc("Steps that may cost more than this are left out.")
    ] = None
    affinity: Annotated[
        bool | None,
        Doc("Stay where a conversation's beginning is cached while that pays. Default: true."),
    ] = None
    redact: Annotated[
        tuple[Finding, ...] | None,
        NonEmpty(),
        Doc("What clouds get as placeholders; the answer has the originals again. Rules add to the alias."),
    ] = None
    reserve: Annotated[
        bool | None, Doc("May use the neurons that a backend keeps in reserve. Default: false.")
    ] = None
    while_loading: Annotated[
        Literal["wait", "cloud"] | None,
        Doc("A local model that is not in memory yet: wait for it (default), or let clouds go first."),
    ] = None


class Alias(Treatment, frozen=True, kw_only=True, rename={"try_": "try"}):
    """A name clients use, and who serves it, in order."""

    try_: Annotated[
        tuple[Annotated[TryStep, Short("step")], ...],
        NonEmpty(),
        Doc(
            "backend/model entries; the next is tried when one fails. Of a translation, models that chat "
            "go behind those made for it."
        ),
    ]
    timeouts: Annotated[Timeouts, Doc("For calls to this alias.")] = Timeouts()
    adapters: Annotated[
        dict[Name, Annotated[float, Bounds(at_least=0, at_most=16)]],
        Doc("LoRA adapters of its models → strength, for calls that name none themselves; 1 at Workers AI."),
    ] = field(default_factory=dict)
    truncate: Annotated[
        Literal["middle", "oldest"] | None,
        Doc("What is left out of a conversation that is too long. Default: nothing, the call is refused."),
    ] = None


class Above(Struct, frozen=True, kw_only=True):
    """A range of numbers."""

    above: Annotated[int | None, Bounds(at_least=0), Doc("More than this.")] = None
    below: Annotated[int | None, Bounds(at_least=1), Doc("Less than this.")] = None


class Condition(Struct, frozen=True, kw_only=True, rename={"not_": "not"}):
    """What a call must look like. Several keys in one condition must all hold."""

    any: Annotated[tuple[Condition, ...] | None, NonEmpty(), Doc("At least one of these.")] = None
    all: Annotated[tuple[Condition, ...] | None, NonEmpty(), Doc("Every one of these.")] = None
    not_: Annotated[Condition | None, Doc("Not this.")] = None
    alias: Annotated[tuple[str, ...] | None, NonEmpty(), Doc("The alias is one of these.")] = None
    operation: Annotated[
        tuple[
            Literal[
                "chat",
                "complete",
                "embed",
                "rerank",
                "transcribe",
                "speak",
                "image",
                "classify",
                "translate",
                "moderate",
            ],
            ...,
        ]
        | None,
        NonEmpty(),
        Doc("The operation is one of these."),
    ] = None
    prompt_tokens: Annotated[Above | None, Doc("The prompt's estimated size.")] = None
    header: Annotated[
        dict[HeaderName, Regex] | None,
        NonEmpty(),
        Doc("Each named request header has a value that matches, whole."),
    ] = None
    key: Annotated[tuple[str, ...] | None, NonEmpty(), Doc("The caller's key has one of these names.")] = None
    time: Annotated[
        str | None,
        Pattern(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", "local times as in 22:00-06:30"),
        Doc("Local time of day; may pass midnight."),
    ] = None
    text: Annotated[
        tuple[Regex, ...] | None, NonEmpty(), Doc("One of these is found in the prompt's text.")
    ] = None
    finds: Annotated[
        tuple[Finding, ...] | None,
        NonEmpty(),
        Doc("One of these is found in the prompt's text, by form and check digits."),
    ] = None
    files: Annotated[
        tuple[Annotated[str, NonEmpty()], ...] | None,
        NonEmpty(),
        Doc("The prompt names a file that matches one of these: *.pem, **/secrets/**, .env."),
    ] = None
    language: Annotated[
        tuple[Annotated[str, Pattern(r"[a-z]{2}", "a language by its two letters, as in de")], ...] | None,
        NonEmpty(),
        Doc("The prompt is written in one of these languages (ISO 639-1)."),
    ] = None
    path: Annotated[
        tuple[str, ...] | None, NonEmpty(), Doc("The request's path is one of these: /v1/completions.")
    ] = None
    has: Annotated[
        tuple[
            Literal[
                "tools",
                "images",
                "audio",
                "schema",
                "logprobs",
                "grammar",
                "infill",
                "adapters",
                "prefill",
                "speech_translation",
                "image_input",
                "inpainting",
                "prompts",
            ],
            ...,
        ]
        | None,
        NonEmpty(),
        Doc("The call carries all of these."),
    ] = None


class Rule(Treatment, frozen=True, kw_only=True):
    """When a condition holds, order, restrict, refuse, or say how to run. Rules apply from first to last.

    A target is a backend's name, `backend/model`, or `local` or `cloud` for all of a kind.
    """

    name: Annotated[
        str,
        Pattern(r"[a-z][a-z0-9_]{0,63}", "a sentence in snake_case, as keep_keys_home"),
        Doc("Shown in plans and logs."),
    ]
    when: Annotated[Condition, Doc("Empty: always.")] = Condition()
    first: Annotated[tuple[str, ...] | None, NonEmpty(), Doc("Move steps of these targets to the front.")] = (
        None
    )
    only: Annotated[tuple[str, ...] | None, NonEmpty(), Doc("Leave out every step of other targets.")] = None
    local_only: Annotated[
        bool,
        Doc("Nothing of the call leaves this machine, in no attempt, retry, hedge, continuation or log."),
    ] = False
    refuse: Annotated[
        str | None,
        Pattern(r"\S+(\s+\S+)+\s*", "a sentence for the client, as in: pictures are not served here"),
        Doc("Refuse the call with this sentence."),
    ] = None


class Log(Struct, frozen=True, kw_only=True):
    """What is written to standard error, one JSON line an event."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Doc("Least severe line written.")] = "info"
    calls: Annotated[bool, Doc("A line for each attempt and each call.")] = True


class Store(Struct, frozen=True, kw_only=True):
    """What is remembered across restarts: decisions, speeds, neurons. One SQLite file."""

    path: Annotated[
        str,
        NonEmpty(),
        Doc("The file, relative to this one; below $STATE_DIRECTORY where systemd gives one."),
    ] = "state/router.sqlite3"
    keep_days: Annotated[
        int, Bounds(at_least=1, at_most=3650), Doc("Decision records older than this are dropped.")
    ] = 30
    prompts: Annotated[
        bool,
        Doc("Keep the text of calls with their records, but never of `local_only` calls."),
    ] = False


_AMOUNT = Pattern(
    r"([1-9]\d?|100)%|[1-9]\d*(\.\d+)?([KMG]i?)?B", "a share, as in 80%, or a size, as in 12GiB"
)


class Residency(Struct, frozen=True, kw_only=True):
    """What local models may take together. What does not fit makes room for each other, or is refused."""

    ram: Annotated[str, _AMOUNT, Doc("Of the memory that this process may use.")] = "90%"
    vram: Annotated[str, _AMOUNT, Doc("Of the GPUs' memory, which is counted with `nvidia-ml-py` only.")] = (
        "90%"
    )
    swap_wait: Annotated[
        Duration, Doc("So long calls for resident models go before one for a model that they keep out.")
    ] = 10.0


# What `timeouts` means where nothing is written.  A cloud loads nothing: there `load` is not checked.
DEFAULT_TIMEOUTS = Timeouts(connect=5.0, load=60.0, first_token=60.0, between_tokens=30.0, total=600.0)


class Config(Struct, frozen=True, kw_only=True):
    """All of router.yaml."""

    backends: Annotated[dict[BackendName, BackendConfig], NonEmpty(), Doc("Who can run calls, by name.")]
    aliases: Annotated[dict[AliasName, Alias], NonEmpty(), Doc("Names clients may use as `model`.")]
    server: Annotated[Server, Doc("The listening side.")] = Server()
    manifest: Annotated[str, NonEmpty(), Doc("The list of model files, relative to this file.")] = (
        "models/manifest.yaml"
    )
    timeouts: Annotated[Timeouts, Doc("For every call, unless replaced for a backend, alias or step.")] = (
        DEFAULT_TIMEOUTS
    )
    rules: Annotated[tuple[Rule, ...], Doc("The policy.")] = ()
    dialects: Annotated[Dialects, Doc("What clients may speak besides OpenAI's API.")] = Dialects()
    gateways: Annotated[dict[BackendName, FrontGateway], Doc("AI Gateways that this router is, by name.")] = (
        field(default_factory=dict)
    )
    log: Annotated[Log, Doc("Logging.")] = Log()
    residency: Annotated[Residency, Doc("What local models may take of memory.")] = Residency()
    store: Annotated[Store, Doc("What is remembered across restarts.")] = Store()
    watch: Annotated[bool, Doc("Reload by itself when this file changes.")] = False


# Keys that people look for where they are not, and where they are instead.
MISPLACED: Final[Mapping[tuple[type[Struct], str], str]] = MappingProxyType(
    {
        (
            Waits,
            "total",
        ): "belongs to the whole call: write it under the alias's `timeouts` or the global ones",
    }
)


class Loaded(Struct, frozen=True, kw_only=True):
    """A valid configuration with what was read around it.

    Attributes:
        config: the file.
        path: where it was, absolute.
        secrets: `backend.key` → value, for sources that exist.
        off: backend → why it is off, in one sentence with what to do.
        places: key path → line and column of its value, from 1.
    """

    config: Config
    path: str
    secrets: dict[str, Secret] = field(default_factory=dict)
    off: dict[str, str] = field(default_factory=dict)
    places: dict[tuple[str | int, ...], tuple[int, int]] = field(default_factory=dict)
