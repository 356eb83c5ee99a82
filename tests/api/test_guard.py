"""Who may ask: keys, hosts, origins.  On real sockets, over every route of the table."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator

import aiohttp
import pytest
from scripted_answers import CHAT, HELLO, ScriptedAnswers, exchange, get, listening, post, request_bytes

from hybrid_router.api.address import host_name
from hybrid_router.api.failures import ACCOUNT, document_of
from hybrid_router.api.openai import error as openai_error
from hybrid_router.api.routes import ROUTES, Route
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.config.schema import Key, Server
from hybrid_router.core.event import Embedding, Heard, Picture, Relevance, Sound, Verdict

KEY = "hr-canary-0123456789"
OTHER = "hr-other-9876543210"
PAGE = "https://app.example"
FORM = "multipart/form-data; boundary=b"
EVERYTHING = [
    [
        Embedding(b"\0\0\x80\x3f"),
        Relevance(0.5),
        Heard("en", 1.0),
        Sound(b"RIFF"),
        Picture(b"\x89PNG"),
        Verdict((), ()),
    ],
    *HELLO,
]
REST = {
    "prompt": "x",
    "input": "x",
    "query": "x",
    "documents": ["x"],
    "target": "de",
}  # each route takes its own


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYED = Server(
    listen="127.0.0.1:0",
    keys=(Key(name="alice", sha256=_digest(KEY)), Key(name="bob", sha256=_digest(OTHER))),
)
OPEN_TO_PAGE = Server(listen="127.0.0.1:0", allowed_origins=(PAGE,))


@pytest.fixture
def answers() -> ScriptedAnswers:
    """The usual script."""
    return ScriptedAnswers()


@pytest.fixture
async def keyed(answers: ScriptedAnswers) -> AsyncGenerator[int]:
    """The port of a router that wants keys."""
    async with listening(answers, KEYED) as listener:
        yield listener.port


@pytest.fixture
async def open_port(answers: ScriptedAnswers) -> AsyncGenerator[int]:
    """The port of a router as it comes: loopback, no keys."""
    async with listening(answers) as listener:
        yield listener.port


def _path(route: Route) -> str:
    path = route.path.replace("{name:.+}", "org/model").replace("{id}", "dec_1")
    path = path.replace(f"{{account:{ACCOUNT}}}", "e" * 32).replace("{endpoint:.+}", "chat/completions")
    return path.replace("{account}", "any").replace("{model:.+}", "@cf/meta/m2m100-1.2b")


def _form(route: Route) -> bytes:
    """A model, a prompt and a file, which is not looked at."""
    file = "file" if "audio" in route.path else "image"
    parts = [('name="model"', "fast"), ('name="prompt"', "x"), (f'name="{file}"; filename="x"', "x")]
    if "variations" in route.path:
        del parts[1]
    written = "".join(
        f"--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n" for head, body in parts
    )
    return (written + "--b--\r\n").encode()


LOCKED = sorted(
    {
        (method, _path(r))
        for r in ROUTES
        if r.auth == "key"
        for method in (r.method, "HEAD", "OPTIONS", "DELETE")
    }
    | {
        (method, path)
        for path in ("/nowhere", "/v1", "/v1/nope")
        for method in ("GET", "HEAD", "OPTIONS", "POST")
    }
)
BAD = {
    "none": [],
    "empty": [("Authorization", "")],
    "wrong": [("Authorization", "Bearer hr-wrong")],
    "truncated": [("Authorization", f"Bearer {KEY[:-1]}")],
    "longer": [("Authorization", f"Bearer {KEY}x")],
    "upper case": [("Authorization", f"Bearer {KEY.upper()}")],
    "scheme": [("Authorization", f"Basic {KEY}")],
    "bare": [("Authorization", KEY)],
    "twice": [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
    "one of two": [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer hr-wrong")],
    "wrong beside right": [("Authorization", "Bearer hr-wrong"), ("x-api-key", KEY)],
    "x-api-key twice": [("x-api-key", KEY), ("x-api-key", KEY)],
    "the hash": [("Authorization", f"Bearer {_digest(KEY)}")],
    "not ascii": [("Authorization", "Bearer h\udcffr")],
}


def test_every_route_has_an_auth_class() -> None:
    """Only the signpost and the health check are public; a new route must choose."""
    assert {(r.method, r.path) for r in ROUTES if r.auth == "public"} == {("GET", "/"), ("GET", "/health")}
    assert {r.auth for r in ROUTES} == {"public", "key"}
    assert all((r.body == "none") == (r.method in ("GET", "DELETE")) for r in ROUTES)


@pytest.mark.parametrize("reason", BAD)
async def test_every_bad_key_is_refused_alike_everywhere(keyed: int, reason: str) -> None:
    """A01: whatever is wrong with the key, every route and every non-route answers the same 401, each in the
    words of its dialect."""
    seen: dict[str, set[object]] = {}
    for method, path in LOCKED:
        reply = await exchange(keyed, request_bytes(method, path, b"", BAD[reason]))
        assert reply.status == 401, (method, path)
        dialect = document_of(path).__module__
        seen.setdefault(f"{dialect} head", set()).add(
            (reply.headers["content-length"], frozenset(reply.headers))
        )
        if method != "HEAD":
            seen.setdefault(f"{dialect} body", set()).add(reply.body)
    assert all(len(alike) == 1 for alike in seen.values())


async def test_a_refusal_says_nothing_of_the_reason(keyed: int) -> None:
    """A01: the 401 has the same body for every reason, so it helps nobody to guess."""
    replies = [
        await exchange(keyed, request_bytes("GET", "/v1/models", b"", headers)) for headers in BAD.values()
    ]

    assert len({reply.body for reply in replies}) == 1


@pytest.mark.parametrize("query", [f"?api_key={KEY}", f"?key={KEY}", f"?authorization=Bearer%20{KEY}"])
async def test_a_key_in_the_query_is_no_key(keyed: int, query: str) -> None:
    """Addresses end up in logs and histories, so a key there does not count."""
    assert (await get(keyed, "/v1/models" + query)).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"x-api-key": KEY},
        {"api-key": KEY},
        {"Authorization": f"Bearer {KEY}", "x-api-key": KEY, "api-key": KEY},
    ],
)
async def test_a_key_opens_every_door(keyed: int, answers: ScriptedAnswers, headers: dict[str, str]) -> None:
    """Any of the three headers that clients use will do, and the call knows whose key it was."""
    answers.decisions["dec_1", "alice"] = b"{}"
    answers.script = EVERYTHING
    for route in ROUTES:
        if document_of(_path(route)) is not openai_error.document:
            continue  # other dialects knock in tests of their own
        if route.body == "json":
            body = CHAT if "chat" in route.path or "explain" in route.path else {"model": "fast", **REST}
            reply = await post(keyed, route.path, body, headers)
        elif route.body == "form":
            asked = request_bytes("POST", route.path, _form(route), headers, content_type=FORM)
            reply = await exchange(keyed, asked)
        else:
            reply = await get(keyed, _path(route), headers)
        # No picture waits to be fetched: behind the door, it is not there.
        assert reply.status == (404 if route.path.startswith("/v1/images/files") else 200), route.path

    assert {call.principal for call in answers.calls} == {"alice"}
    assert not any(KEY in str(call.headers) for call in answers.calls)


async def test_public_routes_need_no_key(keyed: int) -> None:
    """Health and signpost answer everyone who may reach the address, by GET and HEAD."""
    for path in ("/", "/health"):
        assert (await get(keyed, path)).status == 200
        head = await get(keyed, path, method="HEAD")
        assert (head.status, head.body) == (200, b"")


async def test_without_keys_any_key_will_do(open_port: int, answers: ScriptedAnswers) -> None:
    """Clients insist on sending a key; where none is needed it is not looked at."""
    reply = await post(open_port, "/v1/chat/completions", CHAT, {"Authorization": "Bearer sk-none"})

    assert reply.status == 200
    assert answers.calls[0].principal == "local"


@pytest.mark.parametrize(
    "host",
    [
        "attacker.test", "attacker.test:80", "localhost.attacker.test", "localhost.", "127.0.0.1.nip.io",
        "127.1", "0.0.0.0", "user@localhost", "localhost@attacker.test", "localhost:80:80", "localhost:x",
        "[::1", "::1", "[::2]", "löcalhost", "localhost,attacker.test", "foo.localhost", "",
    ],
)  # fmt: skip
async def test_other_hosts_are_turned_away(open_port: int, host: str) -> None:
    """A04: only exact names from the list are answered, on every route, public ones too."""
    for path in ("/health", "/v1/models", "/nowhere"):
        reply = await exchange(open_port, request_bytes("GET", path, host=host))
        assert reply.status in {400, 421}, (path, reply)
        assert reply.error["code"] in {"host_not_allowed", "invalid_request_error"}
        message = reply.error["message"]
        assert f"'{host}'" in message or "names no host" in message or reply.status == 400


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"]
)
async def test_own_hosts_are_answered(open_port: int, host: str) -> None:
    """Loopback by its usual names, with any port or none."""
    assert (await exchange(open_port, request_bytes("GET", "/health", host=host))).status == 200


async def test_a_host_that_is_turned_away_is_named(open_port: int) -> None:
    """Whoever runs the client learns which name to add, and where; the name is cut if it is long."""
    named = await exchange(open_port, request_bytes("GET", "/health", host="host.docker.internal:8080"))
    long = await exchange(open_port, request_bytes("GET", "/health", host="x" * 5000))

    assert "'host.docker.internal:8080' is not in server.allowed_hosts" in named.error["message"]
    assert len(long.error["message"]) < 250


async def test_two_hosts_are_none(open_port: int) -> None:
    """A request with two Host headers is refused, whichever comes first."""
    for first, second in (
        ("localhost", "attacker.test"),
        ("attacker.test", "localhost"),
        ("localhost", "localhost"),
    ):
        raw = request_bytes("GET", "/health", b"", {"Host": second}, host=first)
        assert (await exchange(open_port, raw)).status in {400, 421}


async def test_a_target_in_absolute_form_names_an_allowed_host(open_port: int) -> None:
    """A04: `GET http://attacker.test/` is misdirected even if Host is ours; nothing is proxied."""
    for target, status in (
        ("http://attacker.test/health", 421),
        ("http://localhost@attacker.test/health", 421),
        ("http://localhost/health", 200),
    ):
        assert (await exchange(open_port, request_bytes("GET", target))).status == status
    assert (await exchange(open_port, request_bytes("CONNECT", "localhost:80"))).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},
        {"Origin": PAGE + ".evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_web_pages_may_not_call(answers: ScriptedAnswers, headers: dict[str, str]) -> None:
    """A05: an origin that is not listed gets a 403 without CORS headers, and no call is made."""
    async with listening(answers, OPEN_TO_PAGE) as listener:
        for reply in (
            await post(listener.port, "/v1/chat/completions", CHAT, headers),
            await get(listener.port, "/v1/models", headers),
            await get(
                listener.port,
                "/v1/chat/completions",
                {
                    **headers,
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Private-Network": "true",
                },
                method="OPTIONS",
            ),
        ):
            assert reply.status == 403 or ("Origin" not in headers and reply.status == 405)
            assert not [name for name in reply.headers if name.startswith("access-control")]
    assert answers.calls == []


async def test_listed_pages_may_call(answers: ScriptedAnswers) -> None:
    """An origin from `allowed_origins` gets CORS headers, on answers and on errors."""
    headers = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    async with listening(answers, OPEN_TO_PAGE) as listener:
        good = await post(listener.port, "/v1/chat/completions", CHAT, headers)
        bad = await post(listener.port, "/v1/chat/completions", {}, headers)

    assert (good.status, bad.status) == (200, 400)
    for reply in (good, bad):
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert reply.headers["vary"] == "origin"
        assert "x-request-id" in reply.headers["access-control-expose-headers"]


async def test_a_preflight_needs_no_key(answers: ScriptedAnswers) -> None:
    """Browsers ask without credentials; the answer names what an allowed page may send, and no more."""
    server = Server(listen="127.0.0.1:0", allowed_origins=(PAGE,), keys=KEYED.keys)
    asking = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    async with listening(answers, server) as listener:
        reply = await get(listener.port, "/v1/chat/completions", asking, method="OPTIONS")
        call = await post(listener.port, "/v1/chat/completions", CHAT, {"Origin": PAGE})

    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in reply.headers["access-control-allow-headers"]
    assert call.status == 401


async def test_unknown_addresses_and_methods_are_named(open_port: int) -> None:
    """404 and 405 are error objects; 405 says what is allowed."""
    missing = await get(open_port, "/v1/nothing", method="POST")
    wrong = await get(open_port, "/v1/chat/completions")

    assert (missing.status, missing.error["code"]) == (404, "not_found")
    assert (wrong.status, wrong.error["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")
    for method in ("TRACE", "DELETE", "PUT", "PATCH", "OPTIONS"):
        reply = await get(open_port, "/health", method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_every_response_carries_the_common_headers(open_port: int) -> None:
    """Answers and errors have a request id and a time, are not cached, not sniffed, and name no software."""
    ids = set()
    for reply in (
        await get(open_port, "/health"),
        await get(open_port, "/nowhere"),
        await post(open_port, "/v1/chat/completions", CHAT),
        await post(open_port, "/v1/chat/completions", {**CHAT, "stream": True}),
        await exchange(open_port, request_bytes("GET", "/", host="attacker.test")),
        await exchange(open_port, b"NONSENSE\r\n\r\n"),
    ):
        ids.add(reply.headers["x-request-id"])
        assert reply.headers["x-request-id"].startswith("req_")
        assert int(reply.headers["openai-processing-ms"]) >= 0
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "server" not in reply.headers
    assert len(ids) == 6


def test_a_host_name_is_what_was_sent() -> None:
    """A host name is compared without its port, in lower case."""
    assert host_name("Router.lan:8080") == "router.lan"
    assert host_name("[FE80::1]") == "fe80::1"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "127.0.0.2:0", "localhost:0"])
async def test_this_machine_is_always_allowed(listen: str) -> None:
    """`allowed_hosts` adds names: who lists some locks out neither loopback nor the address listened on."""
    server = Server(listen=listen, allowed_hosts=("Router.home.arpa",))
    own = {"localhost", "127.0.0.1", "[::1]", "router.home.arpa:8080", listen.replace("0.0.0.0", "127.0.0.1")}
    application = create_application(ScriptedAnswers(), server, "1")
    async with Listener(application) as listener, aiohttp.ClientSession() as session:
        for host, status in [*((host, 200) for host in own), ("0.0.0.0", 421), ("other.home.arpa", 421)]:
            async with session.get(f"{listener.url}/health", headers={"Host": host}) as reply:
                assert reply.status == status, host
        async with session.get(f"{listener.url}/health") as reply:
            assert reply.status == 200
