"""How families of translation models write languages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

Family: TypeAlias = Literal["m2m100", "nllb", "opus"]

_M2M100 = re.compile(r"__([a-z]{2,3})__")
_NLLB = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_OPUS = re.compile(r">>([A-Za-z_]{2,16})<<")
# ISO 639-1 → FLORES-200, whose language codes are ISO 639-3 with a script: one of several, the commonest.
_FLORES: Mapping[str, str] = MappingProxyType(
    {
        "af": "afr_Latn", "am": "amh_Ethi", "ar": "arb_Arab", "as": "asm_Beng", "az": "azj_Latn",
        "be": "bel_Cyrl", "bg": "bul_Cyrl", "bn": "ben_Beng", "bs": "bos_Latn", "ca": "cat_Latn",
        "cs": "ces_Latn", "cy": "cym_Latn", "da": "dan_Latn", "de": "deu_Latn", "el": "ell_Grek",
        "en": "eng_Latn", "eo": "epo_Latn", "es": "spa_Latn", "et": "est_Latn", "eu": "eus_Latn",
        "fa": "pes_Arab", "fi": "fin_Latn", "fo": "fao_Latn", "fr": "fra_Latn", "ga": "gle_Latn",
        "gd": "gla_Latn", "gl": "glg_Latn", "gu": "guj_Gujr", "ha": "hau_Latn", "he": "heb_Hebr",
        "hi": "hin_Deva", "hr": "hrv_Latn", "ht": "hat_Latn", "hu": "hun_Latn", "hy": "hye_Armn",
        "id": "ind_Latn", "ig": "ibo_Latn", "is": "isl_Latn", "it": "ita_Latn", "ja": "jpn_Jpan",
        "jv": "jav_Latn", "ka": "kat_Geor", "kk": "kaz_Cyrl", "km": "khm_Khmr", "kn": "kan_Knda",
        "ko": "kor_Hang", "ku": "kmr_Latn", "ky": "kir_Cyrl", "lb": "ltz_Latn", "lo": "lao_Laoo",
        "lt": "lit_Latn", "lv": "lvs_Latn", "mg": "plt_Latn", "mi": "mri_Latn", "mk": "mkd_Cyrl",
        "ml": "mal_Mlym", "mn": "khk_Cyrl", "mr": "mar_Deva", "ms": "zsm_Latn", "mt": "mlt_Latn",
        "my": "mya_Mymr", "nb": "nob_Latn", "ne": "npi_Deva", "nl": "nld_Latn", "nn": "nno_Latn",
        "no": "nob_Latn", "pa": "pan_Guru", "pl": "pol_Latn", "ps": "pbt_Arab", "pt": "por_Latn",
        "ro": "ron_Latn", "ru": "rus_Cyrl", "sd": "snd_Arab", "si": "sin_Sinh", "sk": "slk_Latn",
        "sl": "slv_Latn", "so": "som_Latn", "sq": "als_Latn", "sr": "srp_Cyrl", "su": "sun_Latn",
        "sv": "swe_Latn", "sw": "swh_Latn", "ta": "tam_Taml", "te": "tel_Telu", "tg": "tgk_Cyrl",
        "th": "tha_Thai", "tl": "tgl_Latn", "tr": "tur_Latn", "tt": "tat_Cyrl", "ug": "uig_Arab",
        "uk": "ukr_Cyrl", "ur": "urd_Arab", "uz": "uzn_Latn", "vi": "vie_Latn", "xh": "xho_Latn",
        "yi": "ydd_Hebr", "yo": "yor_Latn", "zh": "zho_Hans", "zu": "zul_Latn",
    }
)  # fmt: skip
_OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {"nb": "no", "iw": "he", "in": "id", "fil": "tl", "zh-cn": "zh", "zh-hans": "zh", "jw": "jv"}
)
_FEWEST = 2  # languages of a model that is told which it writes
# They write words and sentences without spaces between them.
UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my"})


class Languages:
    """What one model reads and writes, by the tokens that its vocabulary has for languages."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        found = list(vocabulary)
        m2m100 = {match[1]: token for token in found if (match := _M2M100.fullmatch(token))}
        nllb = {token: token for token in found if _NLLB.fullmatch(token)}
        opus = {match[1].casefold(): token for token in found if (match := _OPUS.fullmatch(token))}
        self.family: Family = "opus"
        self._tokens = opus
        if len(m2m100) >= _FEWEST:
            self.family, self._tokens = "m2m100", m2m100
        elif len(nllb) >= _FEWEST:
            self.family, self._tokens = "nllb", nllb

    @property
    def names(self) -> list[str]:
        """Every language that it is told by a token, as callers may name it."""
        if self.family == "nllb":
            return sorted(code for code, token in _FLORES.items() if token in self._tokens)
        return sorted(self._tokens)

    def token(self, name: str) -> str | None:
        """The token of a language that is named by ISO 639 or as the model does; None: it has none."""
        wanted = name.strip().replace("_", "-").casefold()
        for code in (wanted, _OTHER_NAMES.get(wanted, wanted), wanted.partition("-")[0]):
            if (token := self._by_code(code)) is not None:
                return token
        return self._tokens.get(name)

    def _by_code(self, code: str) -> str | None:
        if self.family == "nllb":
            return self._tokens.get(_FLORES.get(code, ""))
        return self._tokens.get(code) or self._tokens.get(_FLORES.get(code, code)[:3])  # OPUS has both


def bare(name: str) -> str:
    """The language alone, in two letters where it has them: `zh` of `zh-TW` and of `zho_Hans`."""
    if _NLLB.fullmatch(name):
        return next((code for code, flores in _FLORES.items() if flores[:3] == name[:3]), name)
    code = name.replace("_", "-").casefold()
    return _OTHER_NAMES.get(code, code.partition("-")[0])
