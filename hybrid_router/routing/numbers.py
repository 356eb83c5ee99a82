"""Whether a run of digits is a card's, an account's or a telephone's number: by check digits and by tables.

As in `checks`, each is given a text's UTF-8 bytes and where a candidate begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

from hybrid_router.routing.checks import Place

_DIGITS = re.compile(rb"[0-9]+")
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_FEWEST_CARD_DIGITS = 13
_CARD_GROUPS = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 4, 4, 1)})
_MAESTRO = (13, 14, 15, 16, 17, 18, 19)
_ISSUERS = (  # first and last beginning, and lengths: ISO/IEC 7812, as the networks publish them
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, 16, 19)),  # Diners Club
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16, 19)),
    ("6011", "6011", (16, 19)),  # Discover
    ("644", "659", (16, 19)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("5018", "5018", _MAESTRO),
    ("5020", "5020", _MAESTRO),
    ("5038", "5038", _MAESTRO),
    ("6304", "6304", _MAESTRO),
    ("6759", "6763", _MAESTRO),
)
_IBAN_COUNTRIES = (  # by how long their numbers are: the registry of ISO 13616
    (15, "NO"),
    (16, "BE"),
    (18, "DK FI FK FO GL NL SD"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU MN XK"),
    (21, "CH HR LI LV"),
    (22, "BG BH CR DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ OM SO TL"),
    (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
    (25, "LY PT ST"),
    (26, "IS TR"),
    (27, "BI DJ FR GR IT MC MR SM"),
    (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU YE"),
    (31, "MT SC"),
    (32, "LC"),
    (33, "RU"),
)
_IBAN_LENGTHS = {country: length for length, names in _IBAN_COUNTRIES for country in names.split()}
# Whose numbers are written with the area in brackets: with a leading zero, and without one.
_WITH_ZERO = ("DE", "GB", "AT", "CH", "FR", "NL", "AU", "IN", "JP", "ZA")
_WITHOUT_ZERO = ("US", "BR", "MX", "IT")
_NO_PHONE = re.compile(  # dates, times, addresses, versions and fractions
    rb"(?:[12][0-9]{3}[-/.][01]?[0-9][-/.][0-3]?[0-9]|[0-3]?[0-9][-/.][01]?[0-9][-/.](?:19|20)[0-9]{2}"
    rb"|[0-9]+(?:\.[0-9]+){1,3})(?![0-9]).*"
)
_PHONE_DIGITS = range(7, 16)
_MOST_CUTS = 4


def prepare(kinds: Container[str]) -> None:
    """Load the tables that checks of these kinds need: now, and not while a call waits."""
    if "phones" in kinds:
        import phonenumbers  # noqa: PLC0415

        phonenumbers.PhoneMetadata.load_all()
    if "cards" in kinds or "ibans" in kinds:
        import stdnum.iban  # noqa: PLC0415
        import stdnum.luhn  # noqa: F401, PLC0415


def card(utf8: bytes, begin: int, end: int) -> Place | None:
    """A card's number: in groups as on cards or in none, of an issuer, with Luhn's digit at its end."""
    groups = [(group.start(), group.end()) for group in _DIGITS.finditer(utf8, begin, end)]
    for first, last in _card_like([stop - start for start, stop in groups]):
        place = groups[first][0], groups[last][1]
        number = b"".join(utf8[start:stop] for start, stop in groups[first : last + 1])
        if not _belongs(utf8, *place) and _is_card(number.decode()):
            return place
    return None


def _card_like(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of the groups of digits that may be a card's number together."""
    for first, size in enumerate(sizes):
        if size >= _FEWEST_CARD_DIGITS:
            yield first, first
        for last in range(first + 2, min(first + 5, len(sizes))):
            if tuple(sizes[first : last + 1]) in _CARD_GROUPS:
                yield first, last


def _is_card(number: str) -> bool:
    from stdnum import luhn  # noqa: PLC0415 - only where there is a candidate

    issued = any(
        len(number) in lengths and low <= number[: len(low)] <= high for low, high, lengths in _ISSUERS
    )
    return issued and bool(luhn.is_valid(number))


def _belongs(utf8: bytes, begin: int, end: int) -> bool:
    """Whether digits are part of something longer: of a word, a hash or a fraction."""
    before = utf8[max(0, begin - 2) : begin]
    if (before and before[-1] in _WORD) or not _is_free(utf8, end):
        return True
    return before[-1:] == b"." and before[:1].isdigit()


def iban(utf8: bytes, begin: int, end: int) -> Place | None:
    """An account's number: as long as its country's are, with check digits that fit."""
    from stdnum import iban as checked  # noqa: PLC0415 - only where there is a candidate

    length = _IBAN_LENGTHS.get(utf8[begin : begin + 2].decode().upper(), 99)
    signs = [at for at in range(begin, end) if utf8[at] in _WORD][:length]
    if len(signs) < length:
        return None
    end = signs[-1] + 1
    number = bytes(utf8[at] for at in signs).decode()
    if utf8[end : end + 1] and utf8[end] in _WORD:
        return None
    return (begin, end) if checked.is_valid(number, check_country=False) else None


def international(utf8: bytes, begin: int, end: int) -> Place | None:
    """A number with + or 00 and a country's code that exists; digits that stand behind it are left out."""
    for stop in _ends(utf8, begin, end):
        if _is_phone(b"+" + utf8[begin:stop].lstrip(b"+0"), (None,)):
            return begin, stop
    return None


def national(utf8: bytes, begin: int, end: int) -> Place | None:
    """A number with its area in brackets, as (030) 1234-5678."""
    area = utf8[begin + 1 : utf8.index(b")", begin)]
    regions = _WITH_ZERO if area.startswith(b"0") else _WITHOUT_ZERO if len(area) < len(b"1975") else ()
    for stop in _ends(utf8, begin, end):
        if len(re.findall(rb"[0-9]", utf8[begin:stop])) > 8 and _is_phone(utf8[begin:stop], regions):  # noqa: PLR2004
            return begin, stop
    return None


def dashed(utf8: bytes, begin: int, end: int) -> Place | None:
    """A North American number, as 212-555-0123."""
    free = utf8[end : end + 1] not in {b"-", b"."} or not utf8[end + 1 : end + 2].isdigit()
    return (begin, end) if free and _is_phone(utf8[begin:end], ("US",)) and _is_free(utf8, end) else None


def labelled(utf8: bytes, begin: int, end: int) -> Place | None:
    """A number that is called one, in whatever form; but no date, version or address."""
    number = utf8[begin:end]
    count = sum(byte in b"0123456789" for byte in number)
    fits = count in _PHONE_DIGITS and not _NO_PHONE.fullmatch(number)
    return (begin, end) if fits and _is_free(utf8, end) else None


def _is_free(utf8: bytes, end: int) -> bool:
    """Whether nothing goes on where a number ends: neither a word nor a fraction."""
    after = utf8[end : end + 2]
    return not after or not (after[0] in _WORD or (after[:1] == b"." and after[1:].isdigit()))


def _ends(utf8: bytes, begin: int, end: int) -> Iterator[int]:
    """Where a number may end: at the end of a group of digits, the last first."""
    stops = [group.end() for group in _DIGITS.finditer(utf8, begin, end)][::-1]
    return (stop for stop in stops[:_MOST_CUTS] if _is_free(utf8, stop))


def _is_phone(number: bytes, regions: tuple[str | None, ...]) -> bool:
    import phonenumbers  # noqa: PLC0415 - only where there is a candidate

    text = number.replace(b"\xc2\xa0", b" ").decode()
    for region in regions:
        try:
            parsed = phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed):
            return True
    return False
