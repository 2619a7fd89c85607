"""ISO 639-1 codes -> the names of Tesseract's language files, and back."""

from __future__ import annotations

NAMES = {
    "af": "afr", "am": "amh", "ar": "ara", "as": "asm", "az": "aze", "be": "bel", "bg": "bul", "bn": "ben",
    "bo": "bod", "bs": "bos", "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu", "dv": "div",
    "dz": "dzo", "el": "ell", "en": "eng", "eo": "epo", "es": "spa", "et": "est", "eu": "eus", "fa": "fas",
    "fi": "fin", "fr": "fra", "ga": "gle", "gl": "glg", "gu": "guj", "he": "heb", "hi": "hin", "hr": "hrv",
    "hu": "hun", "hy": "hye", "id": "ind", "is": "isl", "it": "ita", "ja": "jpn", "ka": "kat", "kk": "kaz",
    "km": "khm", "kn": "kan", "ko": "kor", "ky": "kir", "la": "lat", "lo": "lao", "lt": "lit", "lv": "lav",
    "mk": "mkd", "ml": "mal", "mn": "mon", "mr": "mar", "ms": "msa", "mt": "mlt", "my": "mya", "ne": "nep",
    "nl": "nld", "no": "nor", "nb": "nor", "nn": "nor", "or": "ori", "pa": "pan", "pl": "pol", "ps": "pus",
    "pt": "por", "ro": "ron", "ru": "rus", "sa": "san", "sd": "snd", "si": "sin", "sk": "slk", "sl": "slv",
    "sq": "sqi", "sr": "srp", "sv": "swe", "sw": "swa", "ta": "tam", "te": "tel", "tg": "tgk", "th": "tha",
    "tl": "tgl", "tr": "tur", "ug": "uig", "uk": "ukr", "ur": "urd", "uz": "uzb", "vi": "vie", "yi": "yid",
    "zh": "chi_sim", "zh-cn": "chi_sim", "zh-hans": "chi_sim", "zh-tw": "chi_tra", "zh-hant": "chi_tra",
}  # fmt: skip
"""As Tesseract's language files are named (tesseract(1), LANGUAGES AND SCRIPTS)."""

_CODES = {name: code for code, name in reversed(NAMES.items())}


def tesseract_name(code: str) -> str:
    """Return the name of a language's file; a region is dropped (en-US), and what is no known code stays as it is."""
    code = code.strip()
    lowered = code.lower().replace("_", "-")
    return NAMES.get(lowered) or NAMES.get(lowered.partition("-")[0]) or code


def iso_code(name: str) -> str:
    """Return the code of a language file's language; its name where it has none."""
    return _CODES.get(name, name)
