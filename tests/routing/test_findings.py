"""Secrets and personal numbers: what is found, what is left alone, and that looking stays cheap."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.config.load import load
from hybrid_router.config.schema import Condition
from hybrid_router.core.call import Call, FunctionCall, Message, Operation, TextPart, ToolCall
from hybrid_router.routing import findings
from hybrid_router.routing.conditions import compiled
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.findings import KINDS, Flood, finder, kinds_of, readable
from hybrid_router.routing.subject import Subject

ROOT = Path(__file__).parents[2]
EVERYTHING = finder(frozenset(KINDS))
LETTERS = "aB3dE5gH7jK9mN2pQ4rS6tU8vW0xY1zA"  # no key of anybody
ARMOUR = f"-----BEGIN RSA PRIVATE KEY-----\n{LETTERS}\n{LETTERS}=\n-----END RSA PRIVATE KEY-----"

API_KEYS = [
    *("AKIA" + "A1" * 8, "ASIA" + "1A" * 8),
    *("ghp_" + "a" * 36, "gho_" + "B" * 36, "github_pat_" + "1" * 22 + "_" + "a" * 59),
    *("glpat-" + "a-_B1" * 4, "glrt-" + LETTERS, "hf_" + "a" * 34, "AIza" + "a-_B1" * 7, "ya29." + LETTERS),
    *("sk-" + "a" * 48, "sk-proj-" + "a-_B1" * 30, "sk-ant-api03-" + "a" * 90, "hr-" + "a-_B1" * 8 + "abc"),
    *("xoxb-" + "1" * 12 + "-" + "a" * 24, "xoxp-" + "1" * 40, "xapp-1-" + "A" * 11),
    "hooks.slack.com/services/T0" + "A" * 8 + "/B0" + "A" * 8 + "/" + "a" * 24,
    *("cfut_" + "a" * 40, "cfat_" + "B" * 40, "v1.0-" + "a" * 24 + "-" + "b" * 146),
    *("sk_live_" + LETTERS, "rk_test_" + LETTERS, "whsec_" + LETTERS, "npm_" + LETTERS + "abcd"),
    *("pypi-AgEIcHlwaS5vcmc" + LETTERS * 2, "AccountKey=" + LETTERS * 2 + "==", "GOCSPX-" + LETTERS[:28]),
    *("SG." + LETTERS[:22] + "." + LETTERS + "abcdefghijk", "dop_v1_" + "a1" * 32, "shpat_" + "a1" * 16),
    *("dckr_pat_" + LETTERS, "gsk_" + LETTERS * 2, "r8_" + LETTERS + "abcde", "dapi" + "a1" * 16),
    *("hvs." + LETTERS, "lin_api_" + LETTERS + "abcdefgh", "SK" + "a1" * 16, "123456789:AA" + LETTERS + "a"),
    LETTERS[:3] + "8Q~" + LETTERS + "ab",
]
TOKENS = [  # what is found, and what it was found in
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + LETTERS, "{}"),
    (LETTERS, "Authorization: Bearer {}"),
    ("dXNlcjpodW50ZXIy", "authorization: Basic {}"),
    ("s3cr3tpw", "postgres://app:{}@db/x"),
    ("s3cr3tpw", "redis://:{}@cache:6379"),
    ("Tr0ub4dor&3", "DB_PASSWORD={}"),
    ("hunter2hunter2", "my password: {}"),
    ("hunter2hunter2", "the password is {}."),
    ("P4ss-w0rd", "密码：{}"),
    ("corr3ct-hörse", "Passwort: „{}“."),
    ("corr3ct-h0rse", 'password = "{}"'),
    ("corr3ct-h0rse", '{{"password":"{}"}}'),
    ("corr3ct-h0rse", '"{{\\"user\\": \\"x\\", \\"password\\": \\"{}\\"}}"'),
    ("0a1b2c3d4e5f60718293", '{{"api_key": "{}"}}'),
    ("django-insecure-x7$k2jd93kfl2", "SECRET_KEY={}"),
    (LETTERS, "export GITHUB_TOKEN={}"),
    (LETTERS + "/+=", "aws_secret_access_key = {}"),
    (LETTERS, "client-secret: '{}'"),
]
PRIVATE_KEYS = [
    ARMOUR,
    ARMOUR.replace("RSA ", ""),
    ARMOUR.replace("RSA", "OPENSSH"),
    ARMOUR.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
    ARMOUR.replace("\n", "\\n"),
    ARMOUR.replace("-----BEGIN RSA", "---- BEGIN SSH2 ENCRYPTED").replace(
        "-----END RSA PRIVATE KEY-----", "---- END SSH2 ENCRYPTED PRIVATE KEY ----"
    ),
    f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{LETTERS}\nPrivate-MAC: {'0a' * 32}",
    "AGE-SECRET-KEY-1" + "QP" * 29,
    "xprv" + LETTERS * 4,
]
EMAILS = [
    "jane.roe@example.com",
    "a@b.co",
    "müller+x@exämple.de",
    "почта@пример.рф",
    "x_1%y@sub.example.museum",
]
PHONES = [
    *("+49 30 12345678", "+4915123456789", "+1 (212) 555-0123", "+49 (0)30 123456", "+44 20 7946 0958"),
    *("+33 1 23 45 67 89", "+86 138 1234 5678", "0049 30 1234567", "+1-212-555-0123", "+49.30.1234567"),
    *("(030) 1234-5678", "(212) 555-0123", "(02) 9876 5432", "(11) 91234-5678", "212-555-0123"),
]
LABELLED = ["Tel.: {}", "phone: '{}'", '"phone_number": "{}"', "Call me at {}", "Handy {}", "fax:{}"]
CARDS = [
    *("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "5500 0000 0000 0004"),
    *("378282246310005", "3782 822463 10005", "30569309025904", "6011 1111 1111 1117", "2223003122003222"),
    *("3530111333300000", "6304000000000000", "4222222222222"),
]
IBANS = [
    "DE89 3704 0044 0532 0130 00",
    "DE89370400440532013000",
    "GB82 WEST 1234 5698 7654 32",
    "no9386011117947",
]
PLANTED = {
    "api_keys": API_KEYS,
    "private_keys": PRIVATE_KEYS,
    "emails": EMAILS,
    "phones": PHONES,
    "cards": CARDS,
    "ibans": IBANS,
}


def found(text: str) -> list[tuple[str, str]]:
    """What is found in a text, with its kind."""
    return [(text[span.begin : span.end], span.kind) for span in EVERYTHING.spans(text)]


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in PLANTED.items() for value in values]
)
def test_each_form_is_found_whole(kind: str, value: str) -> None:
    """Alone, in prose, in quotes, in JSON, after Unicode; nothing around it is part of it."""
    for text in (
        value,
        f"see {value} there",
        f'"{value}"',
        f"x\n{value}\ny",
        f"“{value}” é",
        f"a={value}, b",
    ):
        assert (value, kind) in found(text), text
        assert finder(kinds_of([kind])).found(readable(text))


@pytest.mark.parametrize(("value", "around"), TOKENS)
def test_tokens_are_known_by_what_stands_before_them(value: str, around: str) -> None:
    """What is found is the secret alone: the name before it may leave."""
    text = around.format(value)

    assert found(text) == [(value, "tokens")]
    assert found(f"{text}\nand more") == [(value, "tokens")]


@pytest.mark.parametrize("label", LABELLED)
@pytest.mark.parametrize("number", ["0171 1234567", "030/1234567", "555-0123-4"])
def test_a_number_that_is_called_one_is_one(label: str, number: str) -> None:
    """National forms of any country, where a word says what they are."""
    assert found(label.format(number)) == [(number, "phones")]


NOTHING = [
    *("task-oriented-thinking-and-planning", "https://example.org/risk-management", "sk-learn", "hf_hub"),
    *("sk-fading-circle-container", "git@github.com:owner/name.git", "icon@2x.png", "getty@tty1.service"),
    *("react@18.2.0", "@app.route", "a @ b.T", "matrix@other.sum()", "sd_in@devanagari.utf8"),
    *('api_key = os.environ["API_KEY1"]', "token = request.headers.authorization1", "password: string"),
    *(
        "password=${DB_PASSWORD1}",
        "password: <your-password-1>",
        "SECRET={{ secret1_key_name }}",
        "pwd: /home/x/y1",
        "password = 12345678",
    ),
    *(
        "password = getpass.getpass()",
        "token: access_token",
        "max_tokens: 4096",
        'token="xxxxxxxxxxxxxxxxxxxx"',
    ),
    *("tokenizer: HuggingFaceTB/SmolLM2-135M", "postgres://user:password@host", "http://user:${PW}@host"),
    *("Bearer YOUR_TOKEN_GOES_HERE_NOW", "basic understanding", "Basic authentication", "Basic 12345678"),
    *(
        "2024-01-01T00:00:00+02:00",
        "+35236450.6",
        "+45.123456, +45.12345678",
        "x = +1000",
        "10.1111/0081-1750.00098",
        "(1979) 329-332",
    ),
    *("192.168.0.1", "1.22.333.4444", "2024-01-01 12:00:00,123", "mobile 2024-01-01", "tel 192.168.0.1"),
    *(
        "1700000000123",
        "1700000000123456789",
        "0.4111111111111111",
        "4111111111111112",
        "4111.1111.1111.1111",
    ),
    *("a4111111111111111", "4111111111111111f", "1111 1111 1111 1111", "DE89 3704 0044 0532 0130 01"),
    *("DE89370400440532013000X", "deadbeef89370400440532013000", "550e8400-e29b-41d4-a716-446655440000"),
    *(
        "sha256:" + "0a" * 32,
        "eyJhbGciOiJIUzI1NiJ9",
        "v2.10.3-rc.1",
        "ISBN 978-3-16-148410-0",
        "f(030) 1234-5678",
    ),
]


@pytest.mark.parametrize("text", NOTHING)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    """Words, versions, dates, addresses, code, hashes and numbers whose check digits do not fit."""
    assert found(text) == []


def logs() -> str:
    """Two thousand lines of the usual logs: times, addresses, ids, hashes, sizes, places."""
    random = Random(1)  # noqa: S311 - the same lines each time
    number = random.randint
    return "\n".join(
        f"2024-03-{number(1, 28):02d}T12:00:{number(0, 59):02d}.{number(0, 999):03d}+02:00 INFO"
        f" [{number(1, 99999)}] 10.0.{number(0, 255)}.{number(1, 254)}:{number(1, 65535)}"
        f' "GET /v1/items/{number(1, 10**6)}?page={number(1, 99)} HTTP/1.1" 200 {number(100, 10**7)}'
        f" ts={1_700_000_000_000 + number(0, 10**11)} trace={random.getrandbits(128):032x}"
        f" v={number(0, 9)}.{number(0, 99)}.{number(0, 99)} cost={random.random():.16f}"
        f" at={random.uniform(-90, 90):+.6f},{random.uniform(-180, 180):+.6f}"
        for _ in range(2_000)
    )


def test_logs_hold_none() -> None:
    """No phone in a time, no card in an id, no address in a host."""
    assert found(logs()) == []


def test_source_code_holds_none() -> None:
    """This project's own, all of it: what it says of private keys and shows as a phone's number aside."""
    shown = {"-----BEGIN RSA PRIVATE KEY-----", "(030) 1234-5678", "212-555-0123", "+44 20 7946 0958"}
    known = {path for path in (ROOT / "hybrid_router").rglob("*.py") if path.parent.name != "drill"}
    texts = [path.read_text(encoding="utf-8") for path in sorted(known)]

    assert len(texts) > 100
    assert {value for text in texts for value, _ in found(text)} <= shown


def test_groups_name_their_members() -> None:
    """`secrets` and `pii` are all there is."""
    assert kinds_of(["secrets"]) | kinds_of(["pii"]) == set(KINDS)
    assert kinds_of(["secrets", "emails"]) == {"api_keys", "private_keys", "tokens", "emails"}


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_asked_for_is_found(kind: str) -> None:
    """A rule on phones is not for cards."""
    text = " | ".join([API_KEYS[0], ARMOUR, TOKENS[0][0], EMAILS[0], PHONES[0], CARDS[0], IBANS[0]])

    assert [span.kind for span in finder(frozenset({kind})).spans(text)] == [kind]
    assert {span.kind for span in EVERYTHING.spans(text)} == set(KINDS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A\u200bKIA" + "Z" * 16, "A\u200bKIA" + "Z" * 16),
        ("é ４１１１ １１１１ １１１１ １１１１.", "４１１１ １１１１ １１１１ １１１１"),
        ("ｊａｎｅ＠example．com", "ｊａｎｅ＠example．com"),
        ("𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏", "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏"),
        ("+49\u202f30\u202f123\u00ad45678", "+49\u202f30\u202f123\u00ad45678"),
        ("½ +49 30\u20111234567", "+49 30\u20111234567"),
        ("邮箱是zhang@example.com请", "zhang@example.com"),
        ("\ud800 jane@example.com", "jane@example.com"),
    ],
)
def test_odd_unicode_hides_nothing(text: str, value: str) -> None:
    """Invisible characters and other forms of digits are read as they look; places are the text's own."""
    assert [one for one, _ in found(text)] == [value]
    assert EVERYTHING.found(readable(text))


def test_every_disguise_of_a_letter_is_known() -> None:
    """Whatever Unicode's NFKC makes ASCII letters, digits or @ from is read as that."""
    plain = set("@+-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    signs = [chr(code) for code in range(0x80, 0x20000) if not 0xD800 <= code < 0xE000]
    disguises = [sign for sign in signs if set(unicodedata.normalize("NFKC", sign)) & plain]

    assert len(disguises) > 1_000
    assert [sign for sign in disguises if not set(readable(sign).decode()) & plain] == []


def test_what_overlaps_is_one_finding() -> None:
    """Nothing of either stays: a password that an address seems to begin with, a key in a key."""
    assert found("postgres://jane:s3cret.pw@db.example.com/x") == [("s3cret.pw@db.example.com", "emails")]
    ((value, kind),) = found(ARMOUR.replace(LETTERS, API_KEYS[0], 1))
    assert (value.startswith("-----BEGIN"), value.endswith("KEY-----"), kind) == (True, True, "private_keys")


def test_text_within_json_begins_after_the_escape() -> None:
    """`\\n` before an address is the end of a line, and not its first letter."""
    assert found(r"{\"x\": \"Hi,\njane@example.com\tyes\"}") == [("jane@example.com", "emails")]


def test_a_run_of_cards_hides_none() -> None:
    """Numbers side by side, and others before and after."""
    text = "2024 4111 1111 1111 1111 12/27 123, 5500 0000 0000 0004 3782 822463 10005 4222222222222"

    assert [value for value, _ in found(text)] == [
        *("4111 1111 1111 1111", "5500 0000 0000 0004", "3782 822463 10005", "4222222222222")
    ]


FLOODS = [
    *("(030) 12 34 ", "+99 9999999 ", "4111 1111 1111 1112 ", "DE89 3704 0044 0532 0130 01 "),
    *("token=abcdefghijklmnopqrst ", "password=abcdefgh "),
]


@pytest.mark.parametrize("piece", FLOODS)
def test_a_flood_of_candidates_counts_as_found(piece: str) -> None:
    """Nobody checks them all, so nobody knows: a rule holds, and nothing is redacted."""
    text = piece * (1_000_000 // len(piece))

    assert EVERYTHING.found(text.encode()) is None
    with pytest.raises(Flood):
        EVERYTHING.spans(text)
    assert EVERYTHING.found((piece * 3).encode()) is False


def test_a_text_beyond_the_limit_counts_as_found() -> None:
    """Four million bytes are no prompt that a cloud would take."""
    text = "a " * (findings.MOST_BYTES // 2) + "a"

    assert EVERYTHING.found(text.encode()) is None
    with pytest.raises(Flood):
        EVERYTHING.spans(text)


@pytest.mark.parametrize(
    "piece",
    [
        "a@",
        "a.",
        "sk-",
        "00",
        "9 ",
        "+1 ",
        "x://",
        "-----BEGIN PRIVATE KEY ",
        "eyJ",
        "token==",
        "de89",
        "\u200b",
        "½",
    ],
)
def test_long_texts_are_read_in_linear_time(piece: str) -> None:
    """A million characters of almost something: the test's own time limit says whether reading is linear."""
    text = piece * (1_000_000 // len(piece))

    assert EVERYTHING.found(readable(text)) in {True, False, None}


def chat(text: str) -> Call:
    """A call of one message."""
    return Call(id="x", operation=Operation.CHAT, alias="a", messages=(Message(role="user", content=text),))


def test_a_rule_holds_where_nobody_can_tell() -> None:
    """Of what is too much to check, `finds` holds; and below a `not` the `not` does."""
    flood = Subject(chat(FLOODS[0] * 10_000), Facts())
    clean = Subject(chat("hello"), Facts())
    pii = Condition(finds=("pii",))

    assert compiled(pii)(flood)
    assert compiled(Condition(not_=pii))(flood)
    assert compiled(Condition(not_=Condition(not_=pii)))(flood)
    assert (compiled(pii)(clean), compiled(Condition(not_=pii))(clean)) == (False, True)


@pytest.mark.parametrize(
    "call",
    [
        chat("jane@example.com"),
        Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=("ok", "jane@example.com")),
        Call(
            id="x",
            operation=Operation.CHAT,
            alias="a",
            messages=(Message(role="user", content=[TextPart("jane@exam"), TextPart("ple.com")]),),
        ),
        Call(
            id="x",
            operation=Operation.CHAT,
            alias="a",
            messages=(
                Message(
                    role="assistant",
                    tool_calls=[ToolCall(id="1", function=FunctionCall("f", '{"to":"jane@example.com"}'))],
                ),
            ),
        ),
        Call(
            id="x",
            operation=Operation.CHAT,
            alias="a",
            messages=(Message(role="tool", content="ok", tool_call_id="jane@example.com"),),
        ),
        Call(id="x", operation=Operation.CHAT, alias="a", extra={"metadata": {"who": "jane@example.com"}}),
    ],
)
def test_a_rule_looks_everywhere(call: Call) -> None:
    """Messages, parts of them put together, prompts, tools, fields that are passed on."""
    assert compiled(Condition(finds=("emails",)))(Subject(call, Facts()))
    assert not compiled(Condition(finds=("cards", "secrets")))(Subject(call, Facts()))


def test_structured_fields_are_read_with_their_names_and_numbers() -> None:
    """`password` beside its value, and a card's number that JSON holds as a number."""
    secret = Call(
        id="x", operation=Operation.CHAT, alias="a", extra={"metadata": {"password": "corr3ct-h0rse"}}
    )
    number = Call(
        id="x", operation=Operation.CHAT, alias="a", extra={"metadata": {"n": [None, True, 4111111111111111]}}
    )

    assert compiled(Condition(finds=("tokens",)))(Subject(secret, Facts()))
    assert compiled(Condition(finds=("cards",)))(Subject(number, Facts()))


def test_a_text_is_searched_once_for_the_same_kinds() -> None:
    """However many rules ask; the answer is kept with the call."""
    asked: list[bytes] = []

    class Counting:
        def found(self, utf8: bytes) -> bool:
            asked.append(utf8)
            return True

    subject, one = Subject(chat("hello"), Facts()), Counting()

    assert subject.finds(one, doubt=True)  # type: ignore[arg-type]
    assert subject.finds(one, doubt=False)  # type: ignore[arg-type]
    assert len(asked) == 1
    assert subject.readable is subject.readable


SAID = st.text(alphabet="ab@.12 +-é\n４\u200b:=", max_size=30)
VALUES = st.sampled_from([value for values in PLANTED.values() for value in values])


@given(SAID, VALUES, SAID)
def test_places_are_places_of_the_text(before: str, value: str, after: str) -> None:
    """For any text: in order, apart, within it; and something is found wherever a place is."""
    text = f"{before}\n{value}\n{after}"
    spans = EVERYTHING.spans(text)

    assert all(0 <= span.begin < span.end <= len(text) for span in spans)
    assert all(one.end <= other.begin for one, other in pairwise(spans))
    assert any(span.begin <= len(before) + 1 and span.end > len(before) + 1 for span in spans)
    assert EVERYTHING.found(readable(text))


def test_the_shipped_policy_asks_for_secrets() -> None:
    """And keeps what it finds at home."""
    rules = load(ROOT / "router.yaml", {}).config.rules
    (rule,) = [rule for rule in rules if rule.when.finds]

    assert (rule.when.finds, rule.local_only) == (("secrets",), True)
