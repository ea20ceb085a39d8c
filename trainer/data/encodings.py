"""Text encodings of .txt files: recognised with confidence, or refused."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from charset_normalizer import from_bytes

BLOCK_BYTES = 1 << 22
_SAMPLE_BYTES = 1 << 18
# Multi-byte encodings first: a text in one of them also decodes as Latin, the reverse hardly ever.
_LEGACY = ("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252")
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# charset-normalizer's measures, 0 to 1: chaos is how unlike writing the decoded text is, coherence how like
# a language. Several encodings may decode a few foreign characters equally well; then none is taken.
_MAX_CHAOS = 0.1
_MIN_LEAD = 0.05
_MIN_COHERENCE_LEAD = 0.1
_MIN_LATIN_COHERENCE = 0.2  # every byte string but a few is cp1252
_MAX_CONTROL_SHARE = 0.01
# A language is written in its own script, or these bytes belong to another one: (characters, least share of
# all beyond ASCII). Chinese in Big5 or GBK makes half-width kana and Korean characters that look plausible.
_KANA = (re.compile("[\u3041-\u30ff]"), 0.2)
_SCRIPTS = {
    "shift_jis": _KANA,
    "euc_jp": _KANA,
    "euc_kr": (re.compile("[\uac00-\ud7a3]"), 0.9),
}
_MIN_FOREIGN_CHARS = 6  # fewer of them say nothing about an East Asian encoding
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"


class UnknownEncodingError(Exception):
    """The file's text encoding is not recognised, or it is no text; `str()` says which."""


def detect_encoding(path: Path) -> str:
    """The codec that decodes all of a file.

    A byte-order mark decides; else UTF-8 if every byte of the file is; else a legacy encoding, if the
    statistics of a sample leave no doubt.

    Raises:
        UnknownEncodingError: not text, or an encoding that can only be guessed.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    for mark, name in _BOMS:
        if sample.startswith(mark):
            if not _decodes(path, name):
                raise UnknownEncodingError(f"not {name.removesuffix('-sig').upper()} as its first bytes say")
            return name
    if len(sample.translate(None, _CONTROLS)) < len(sample) * (1 - _MAX_CONTROL_SHARE):
        raise UnknownEncodingError("not text")
    if _decodes(path, "utf-8"):
        return "utf-8"
    name = _legacy_encoding(sample)
    if name is None or not _decodes(path, name):
        raise UnknownEncodingError("unknown text encoding")
    return name


def decoded_blocks(path: Path, encoding: str) -> Iterator[str]:
    """The text of a file in blocks, line ends turned into newlines.

    Raises:
        UnicodeDecodeError: the file is not in this encoding.
        OSError: the file cannot be read.
    """
    with open(path, encoding=encoding, newline=None) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _decodes(path: Path, encoding: str) -> bool:
    try:
        for _ in decoded_blocks(path, encoding):
            pass
    except UnicodeError:
        return False
    return True


def _legacy_encoding(sample: bytes) -> str | None:
    # The sample may end inside a character, and the last line of text ends before that.
    sample = sample[: sample.rfind(b"\n") + 1] or sample
    found = list(from_bytes(sample, cp_isolation=list(_LEGACY)))
    matches = [match for match in found if _in_its_script(match.encoding, str(match))]
    if not matches:
        return None
    best, others = matches[0], matches[1:]
    if best.chaos > _MAX_CHAOS:
        return None
    if best.encoding == "cp1252":
        # Latin letters in place of an East Asian word look like a language too, so nothing else may fit.
        return best.encoding if len(found) == 1 and best.coherence >= _MIN_LATIN_COHERENCE else None
    if len(_BEYOND_ASCII.findall(str(best))) < _MIN_FOREIGN_CHARS:
        return None
    leads = all(
        match.chaos - best.chaos >= _MIN_LEAD or best.coherence - match.coherence >= _MIN_COHERENCE_LEAD
        for match in others
    )
    return best.encoding if leads else None


def _in_its_script(encoding: str, text: str) -> bool:
    if encoding not in _SCRIPTS:
        return True
    script, least_share = _SCRIPTS[encoding]
    return len(script.findall(text)) >= least_share * len(_BEYOND_ASCII.findall(text))
