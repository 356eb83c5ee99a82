r"""What secrets and personal numbers look like: for each kind, patterns of what may be one.

The patterns read bytes (RE2's Latin-1 mode), which keeps their automata small: a letter of two bytes (Latin,
Greek, Cyrillic) is `[\xc3-\xd3][\x80-\xbf]`.  Where a pattern has a group, that is the finding, to the
pattern's end; what stands before it only tells it from something else.  None reaches over the end of a line,
so that a text may be searched piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from hybrid_router.routing import checks, numbers

Check: TypeAlias = Callable[[bytes, int, int], tuple[int, int] | None]


class Form(Struct, frozen=True):
    """One form that findings of a kind have.

    Attributes:
        pattern: what may be one, for RE2.
        check: where the finding among a candidate's bytes begins and ends, or None if it is none; without a
            check every candidate is one.
        cost: of checking a candidate, in units of about a microsecond.
        overlapping: where a candidate is none, the next may begin within it.
    """

    kind: str
    pattern: bytes
    check: Check | None = None
    cost: int = 2
    overlapping: bool = False

    @property
    def grouped(self) -> bool:
        """Whether the finding is less than what the pattern matches."""
        return re.compile(self.pattern).groups > 0


# Where a form begins with letters that words end with.  Text within JSON has \n, \r and \t as two letters.
_START = rb"(?:^|[^0-9A-Za-z_-]|\\[nrt])"
_LETTER = rb"(?:[0-9A-Za-z]|[\xc3-\xd3][\x80-\xbf])"
_GAP = rb"(?:[ -]|\xc2\xa0)?"

_ALONE = rb"(?:^|[^0-9A-Za-z_.]|[^0-9]\.)"
_CARD = (  # of an issuer whose numbers begin with 2 to 6
    rb"[2-6][0-9]{12,18}|[2-6][0-9]{3}" + _GAP + rb"[0-9]{6}" + _GAP + rb"[0-9]{4,5}"
    rb"|[2-6][0-9]{3}(?:" + _GAP + rb"[0-9]{4}){2}" + _GAP + rb"[0-9]{1,4}(?:" + _GAP + rb"[0-9]{1,3})?"
)

_ISSUED = (
    rb"A(?:KI|SI|BI|CC)A[0-9A-Z]{16}",  # AWS
    rb"gh[pousr]_[0-9A-Za-z]{36,}",  # GitHub
    rb"github_pat_[0-9A-Za-z_]{22,}",
    rb"gl(?:pat|dt|rt|ptt|ft|soat|cbt|imt|agent|oas|ffct)-[0-9A-Za-z_.-]{20,}",  # GitLab
    rb"xox[a-z]-[0-9A-Za-z-]{10,}",  # Slack
    rb"xapp-[0-9]-[0-9A-Za-z-]{10,}",
    rb"hooks\.slack\.com/services/T[0-9A-Z]+/B[0-9A-Z]+/[0-9A-Za-z]{16,}",
    rb"AIza[0-9A-Za-z_-]{35,}",  # Google
    rb"ya29\.[0-9A-Za-z_-]{20,}",
    rb"GOCSPX-[0-9A-Za-z_-]{20,}",
    rb"hf_[0-9A-Za-z]{30,}",  # Hugging Face
    rb"cf(?:ut|at|k)_[0-9A-Za-z_-]{30,}",  # Cloudflare
    rb"v1\.0-[0-9a-f]{24}-[0-9a-f]{64,}",
    rb"[sr]k_(?:live|test)_[0-9A-Za-z]{16,}",  # Stripe
    rb"whsec_[0-9A-Za-z+/]{24,}",
    rb"npm_[0-9A-Za-z]{36,}",
    rb"pypi-AgE[0-9A-Za-z_-]{40,}",
    rb"(?:Account|SharedAccess)Key=[0-9A-Za-z+/]{40,}={0,2}",  # Azure
    rb"[0-9A-Za-z_~.]{3}[0-9]Q~[0-9A-Za-z_~.-]{31,}",
    rb"SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{40,}",  # SendGrid
    rb"do[opr]_v1_[0-9a-f]{40,}",  # DigitalOcean
    rb"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32,}",  # Shopify
    rb"dckr_(?:pat|oat)_[0-9A-Za-z_-]{20,}",  # Docker
    rb"gsk_[0-9A-Za-z]{40,}",  # Groq
    rb"pplx-[0-9A-Za-z]{40,}",  # Perplexity
    rb"xai-[0-9A-Za-z]{40,}",
    rb"r8_[0-9A-Za-z]{32,}",  # Replicate
    rb"dapi[0-9a-f]{32,}",  # Databricks
    rb"hv[sb]\.[0-9A-Za-z_-]{24,}",  # Vault
    rb"ATATT3[0-9A-Za-z_=-]{40,}",  # Atlassian
    rb"lin_api_[0-9A-Za-z]{32,}",  # Linear
    rb"ntn_[0-9A-Za-z]{40,}",  # Notion
    rb"sbp_[0-9a-f]{40,}",  # Supabase
    rb"gl(?:sa|c)_[0-9A-Za-z+/=_]{32,}",  # Grafana
    rb"sntr[yu]s_[0-9A-Za-z+/=_]{32,}",  # Sentry
)
# These begin like words or numbers.
_ISSUED_ALONE = (
    rb"sk-[0-9A-Za-z_-]{20,}",  # OpenAI, Anthropic and many who follow them
    rb"hr-[0-9A-Za-z_-]{43}",  # this router's own
    rb"SK[0-9a-f]{32}",  # Twilio
    rb"key-[0-9a-f]{32}",  # Mailgun
    rb"[0-9]{8,10}:AA[0-9A-Za-z_-]{33}",  # Telegram
)
# The end of the names that secrets are given, and what stands between such a name and its value.
_PASSWORD = (
    rb"(?:passw(?:or)?d|passwd|passwort|passphrase|kennwort|pwd|"
    + "mot de passe|contraseña|senha|пароль|密码|パスワード".encode()
    + rb")"
)
_NAMED = (
    rb"(?:secret|token|(?:api|access|account|auth|client|encryption|private|secret|signing)[_-]?key"
    rb"|credentials?)"
)
_IS = rb"\\?[\"']?[ \t]*(?:=>|:=|[=:]|\xef\xbc[\x9a\x9d])[ \t]*"
_SAYS = rb"(?:" + _IS + rb"|[ \t]+(?:is|ist|lautet|est)[ \t]+)"
_VALUE = (
    rb"(\\?\"(?:[^\"\\\s]|\\[^\"\s]){8,}|\\?'(?:[^'\\\s]|\\[^'\s]){8,}|`[^`\s]{8,}"
    rb"|[^\s\"'`\\][^\s\"'`]{7,})"
)
_LABEL = (
    rb"(?:(?:tel(?:efon|ephone)?|(?:tele|cell|mobile ?)?phone|mobil(?:e|telefon)?|fax|handy|whatsapp|ruf)"
    rb"(?:[ _-]?(?:no|nr|number|nummer))?|(?:call|reach) (?:me|us|him|her|them) (?:at|on)|erreichbar unter)"
)

_EMAIL = (
    rb"(?:" + _LETTER + rb"|[._%+-])+@(?:(?:" + _LETTER + rb"|-)+\.)+"
    rb"(?:xn--[0-9A-Za-z-]{2,}|(?:[A-Za-z]|[\xc3-\xd3][\x80-\xbf]){2,})"
)
# Three ways to write a number that says where it is, and one that a word says it of.
_ABROAD = (  # with one dot it is a fraction
    rb"(?:^|[^0-9A-Za-z_.+)\]])"
    rb"(\+[1-9](?:(?:(?:[ ()\-/]|\xc2\xa0){0,3}[0-9]){6,16}|[0-9]{0,2}(?:\.[0-9]{2,8}){2,5}))"
)
_ABROAD_00 = rb"(?:^|[^0-9A-Za-z_.+/-])(00[1-9][0-9]{0,2}[ \-/](?:[ ().\-/]{0,2}[0-9]){5,14})"
_AREA = rb"(?:^|[^0-9A-Za-z_)\]])(\([0-9]{2,5}\)" + _GAP + rb"[0-9]{2,8}(?:[ .\-/]?[0-9]{2,5}){0,3})"
_DASHED = rb"(?:^|[^0-9A-Za-z_.+-])([2-9][0-9]{2}-[2-9][0-9]{2}-[0-9]{4})"
_LABELLED = (
    rb"(?i)(?:^|[^0-9A-Za-z])" + _LABEL + rb"\.?\\?[\"']?[ \t]*[:=]?[ \t]*\\?[\"']?"
    rb"(\(?\+?[0-9][0-9 ().\-/]{5,20}[0-9])"
)
_IBAN = (
    rb"(?:^|[^0-9A-Za-z])([A-Za-z]{2}[0-9]{2}(?:" + _GAP + rb"[0-9A-Za-z]{4}){2,7}"
    rb"(?:" + _GAP + rb"[0-9A-Za-z]{1,4})?)"
)

FORMS: tuple[Form, ...] = (
    Form("api_keys", b"|".join(_ISSUED)),
    Form("api_keys", _START + rb"(" + b"|".join(_ISSUED_ALONE) + rb")", checks.key),
    Form("private_keys", rb"-{4,5} ?BEGIN [0-9A-Z ]*PRIVATE KEY", checks.armoured, 30),
    Form("private_keys", rb"PuTTY-User-Key-File-[0-9]", checks.putty, 30),
    Form("private_keys", rb"(?i:AGE-SECRET-KEY-1[0-9A-Z]{50,})|[xyz]prv[0-9A-Za-z]{100,}"),
    Form("tokens", rb"eyJ[0-9A-Za-z_-]{10,}(?:\.[0-9A-Za-z_-]*){2,4}"),  # JWT, JWE
    Form("tokens", rb"(?i)\bbearer[ \t]+([0-9A-Za-z._~+/-]{16,}=*)", checks.bearer, 10),
    Form("tokens", rb"(?i)\bbasic[ \t]+([0-9A-Za-z+/]{8,}={0,2})", checks.basic, 10),
    Form("tokens", rb"[0-9A-Za-z]://[^\s/?#@:\"'<>]*:([^\s/?#@\"']{3,}@)", checks.url_password, 10),
    Form("tokens", rb"(?i)" + _PASSWORD + _SAYS + _VALUE, checks.password, 10),
    Form("tokens", rb"(?i)" + _NAMED + _IS + _VALUE, checks.named, 10),
    Form("emails", _EMAIL, checks.email),
    Form("phones", _ABROAD, numbers.international, 300),
    Form("phones", _ABROAD_00, numbers.international, 300),
    Form("phones", _AREA, numbers.national, 300),
    Form("phones", _DASHED, numbers.dashed, 100),
    Form("phones", _LABELLED, numbers.labelled, 10),
    Form("cards", _ALONE + rb"(" + _CARD + rb")", numbers.card, 20, overlapping=True),
    Form("ibans", _IBAN, numbers.iban, 40),
)
