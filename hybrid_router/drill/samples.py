"""Things that rules look for in a prompt, made up at run time: they belong to nobody and open nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from hybrid_router.config.kinds import Finding

_LETTERS = "aB3dE5gH7jK9mN2pQ4rS6tU8vW0xY1zA"


def _key() -> str:
    return f"sk-proj-{_LETTERS}{_LETTERS[::-1]}"


def _private_key() -> str:
    body = "\n".join(_LETTERS * 2 for _ in range(8))
    return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"


def _token() -> str:
    """Three parts, as a JSON Web Token has them; the first two are JSON."""
    return f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{_LETTERS}{_LETTERS[:11]}"


def _email() -> str:
    return "jane.roe@mail.example.com"


def _phone() -> str:
    return "+44 20 7946 0958"  # a number that the regulator keeps free for plays


def _card() -> str:
    number = "411111111111111"
    return number + luhn.calc_check_digit(number)


def _iban() -> str:
    account = "370400440532013000"
    return f"DE{mod_97_10.calc_check_digits(account + 'DE')}{account}"


_FOUND: Mapping[Finding, Callable[[], str]] = MappingProxyType(
    {
        "secrets": _key,
        "api_keys": _key,
        "private_keys": _private_key,
        "tokens": _token,
        "pii": _email,
        "emails": _email,
        "phones": _phone,
        "cards": _card,
        "ibans": _iban,
    }
)


def found_as(kind: Finding) -> str:
    """A text in which `kind` is found."""
    return _FOUND[kind]()


def file_like(glob: str) -> str:
    """The name of a file that a pattern matches: `*.pem` → `x.pem`, `**/secrets/**` → `x/secrets/x`."""
    return re.sub(r"\*+|\?", "x", re.sub(r"\[(.)[^]]*\]", r"\1", glob))


def written_in(language: str) -> str | None:
    """A few sentences in a language, by its two letters; None if none is known here."""
    return _SENTENCES.get(language)


_SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "ar": "صباح الخير، أود أن أعرف كيف يمكنني إصلاح هذا الخطأ في البرنامج الذي كتبته بالأمس.",
        "cs": (
            "Dobré ráno, chtěl bych vědět, jak mohu opravit tuto chybu v programu, který jsem včera napsal."
        ),
        "da": (
            "Godmorgen, jeg vil gerne vide, hvordan jeg kan rette denne fejl i det program, jeg skrev i går."
        ),
        "de": "Guten Morgen, ich möchte gerne wissen, wie ich diesen Fehler im Programm von gestern behebe.",
        "en": "Good morning, I would like to know how I can mend this mistake in the program of yesterday.",
        "es": (
            "Buenos días, me gustaría saber cómo puedo corregir este error en el programa que escribí ayer."
        ),
        "fi": (
            "Hyvää huomenta, haluaisin tietää, miten voin korjata "
            "tämän virheen eilen kirjoittamassani ohjelmassa."
        ),
        "fr": "Bonjour, je voudrais savoir comment je peux corriger cette erreur dans le programme d'hier.",
        "el": "Καλημέρα, θα ήθελα να μάθω πώς μπορώ να διορθώσω αυτό το λάθος στο πρόγραμμα που έγραψα χθες.",
        "he": "בוקר טוב, הייתי רוצה לדעת איך אני יכול לתקן את הטעות הזאת בתוכנית שכתבתי אתמול.",
        "hi": ("सुप्रभात, मैं जानना चाहता हूँ कि कल मैंने जो प्रोग्राम लिखा था उसकी यह गलती मैं कैसे ठीक करूँ।"),
        "hu": "Jó reggelt, szeretném tudni, hogyan javíthatom ki ezt a hibát a tegnap írt programban.",
        "it": (
            "Buongiorno, vorrei sapere come posso correggere questo errore nel programma che ho scritto ieri."
        ),
        "ja": "おはようございます。昨日書いたプログラムのこの間違いをどうやって直せばいいのか知りたいです。",
        "ko": "좋은 아침입니다. 어제 작성한 프로그램의 이 오류를 어떻게 고칠 수 있는지 알고 싶습니다.",
        "nl": (
            "Goedemorgen, ik zou graag willen weten hoe ik deze fout "
            "in het programma van gisteren kan herstellen."
        ),
        "no": (
            "God morgen, jeg vil gjerne vite hvordan jeg kan rette "
            "denne feilen i programmet jeg skrev i går kveld."
        ),
        "pl": (
            "Dzień dobry, chciałbym wiedzieć, jak mogę naprawić ten "
            "błąd w programie, który napisałem wczoraj."
        ),
        "pt": (
            "Bom dia, eu gostaria de saber como posso corrigir este "
            "erro no programa que escrevi ontem à noite."
        ),
        "ro": "Bună dimineața, aș dori să știu cum pot corecta această greșeală din programul scris ieri.",
        "ru": (
            "Доброе утро, я хотел бы знать, как мне исправить эту "
            "ошибку в программе, которую я написал вчера."
        ),
        "sv": (
            "God morgon, jag skulle vilja veta hur jag kan rätta det "
            "här felet i programmet som jag skrev igår."
        ),
        "tr": "Günaydın, dün yazdığım programdaki bu hatayı nasıl düzeltebileceğimi öğrenmek istiyorum.",
        "uk": (
            "Доброго ранку, я хотів би знати, як мені виправити цю помилку в програмі, яку я написав учора."
        ),
        "vi": "Chào buổi sáng, tôi muốn biết làm thế nào để sửa lỗi này trong chương trình tôi viết hôm qua.",
        "zh": "早上好，我想知道怎样才能改正我昨天写的程序里的这个错误，请你详细地告诉我。",
    }
)
