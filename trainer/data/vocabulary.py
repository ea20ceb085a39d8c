"""Vocabulary files of the World tokenizer: `id repr byte_length` a line, ids from 1 on; 0 ends a document."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.errors import InputError

WORLD_VOCAB_NAME = "rwkv_vocab_v20230424.txt"
# Of the file with "\n" line ends; the package `rwkv` ships the same lines with "\r\n".
WORLD_VOCAB_SHA256 = "e6dee3d4e31b4d5c40ac99508ac6c701ceef4bed681bf2167ce9a908552bca89"
MAX_TOKEN_ID = 2**31 - 1
_PLAIN = re.compile(r"'[^'\\\n]*'|\"[^\"\\\n]*\"")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of each token id, and the hash of the file (line ends taken as newlines)."""

    tokens: dict[int, bytes]
    sha256: str

    @property
    def is_world(self) -> bool:
        return self.sha256 == WORLD_VOCAB_SHA256

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max(self.tokens) + 1


def world_vocabulary_path() -> Path:
    """The standard World vocabulary, as an installed package ships it; nothing of that package runs.

    Raises:
        InputError: `vocab_not_found`.
    """
    for package in ("rwkv", "pyrwkv_tokenizer"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            path = Path(folder) / WORLD_VOCAB_NAME
            if path.is_file():
                return path
    raise InputError("vocab_not_found", path=WORLD_VOCAB_NAME)


def vocabulary_sha256(raw: bytes) -> str:
    """Hash of a vocabulary file that does not depend on its line ends."""
    return hashlib.sha256(raw.replace(b"\r\n", b"\n")).hexdigest()


def parse_vocabulary(raw: bytes, path: Path) -> Vocabulary:
    """Read a vocabulary file's content.

    Args:
        raw: the file's bytes.
        path: named in errors.

    Raises:
        InputError: `vocab_invalid`, with the line that is wrong.
    """
    try:
        lines = raw.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError("vocab_invalid", path=str(path), reason="not UTF-8") from error
    tokens: dict[int, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line and number == len(lines):
            break
        token_id, token = _parse_line(line, number, path)
        if token_id in tokens:
            raise InputError("vocab_invalid", path=str(path), reason=f"line {number}: id {token_id} again")
        tokens[token_id] = token
    present = {token[0] for token in tokens.values() if len(token) == 1}
    if absent := sorted(set(range(256)) - present):
        raise InputError("vocab_invalid", path=str(path), reason=f"no token for byte {absent[0]:#04x}")
    return Vocabulary(tokens, vocabulary_sha256(raw))


def _parse_line(line: str, number: int, path: Path) -> tuple[int, bytes]:
    try:
        head, rest = line.split(" ", 1)
        literal, length = rest.rsplit(" ", 1)
        if _PLAIN.fullmatch(literal):
            token = literal[1:-1].encode("utf-8")  # nine of ten lines, twenty times as fast
        else:
            token = ast.literal_eval(literal)
            token = token.encode("utf-8") if isinstance(token, str) else token
        if not isinstance(token, bytes) or len(token) != int(length) or not token:
            raise ValueError("length")
        token_id = int(head)
        if not 0 < token_id <= MAX_TOKEN_ID:
            raise ValueError("id")
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError("vocab_invalid", path=str(path), reason=f"line {number}") from error
    return token_id, token
