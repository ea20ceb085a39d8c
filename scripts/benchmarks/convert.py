"""jsonl to binidx, against the same pipeline with the tokenizer of the package `rwkv`; memory."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.benchmarks.report import Row
from scripts.benchmarks.timing import by_turns, in_child
from trainer.data.convert import convert
from trainer.data.tokenizers import WorldTokenizer, load_tokenizer
from trainer.data.vocabulary import parse_vocabulary, world_vocabulary_path

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ("docs/*.md", "trainer/**/*.py", "runner_gui/i18n/*.json", "trainer/contract/texts/*.json")
DOCUMENT_CHARACTERS = 2000

CONVERT = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from trainer.data.convert import convert
from trainer.data.tokenizers import load_tokenizer
meta = convert(Path(sys.argv[2]), Path(sys.argv[3]), load_tokenizer(None))
print(json.dumps({"documents": meta.documents}))
"""


def rows(args: argparse.Namespace) -> Iterator[Row]:
    work: Path = args.work
    small, large = (2, 4) if args.quick else (8, 80)
    few, many = _data(work / "few.jsonl", small), _data(work / "many.jsonl", large)
    ours = load_tokenizer(None)
    theirs = _of_package_rwkv()
    cases: dict[str, Callable[[], object]] = {
        "ours": lambda: convert(few, work / "ours", ours),
        "rwkv": lambda: convert(few, work / "rwkv", theirs),
    }
    times = by_turns(cases, rounds=args.rounds or (3 if args.quick else 7))
    if (work / "ours.bin").read_bytes() != (work / "rwkv.bin").read_bytes():
        raise RuntimeError("the tokenizers do not agree")
    rate = {name: few.stat().st_size / times.median_s(name) / 1e6 for name in cases}
    yield Row("jsonl to binidx, package rwkv's tokenizer", rate["rwkv"], "MB/s")
    yield Row(
        "jsonl to binidx", rate["ours"], "MB/s", "package rwkv's tokenizer", times.speedup("ours", "rwkv")
    )
    peak = {}
    for path in (few, many):
        found, seconds, peak[path] = in_child(CONVERT, str(ROOT), str(path), str(work / path.stem))
        yield Row(
            f"{found['documents']} documents", path.stat().st_size / seconds / 1e6, "MB/s, whole process"
        )
    yield Row(f"peak memory, {small} MB of text", peak[few] / 1e6, "MB")
    yield Row(
        f"peak memory, {large} MB of text", peak[many] / 1e6, "MB", f"{small} MB", peak[few] / peak[many]
    )


def _data(path: Path, megabytes: int) -> Path:
    """Text, code and Chinese of this repository, in documents, until the file is large enough."""
    texts = [file.read_text(encoding="utf-8") for glob in TEXTS for file in sorted(ROOT.glob(glob))]
    everything = "\n".join(texts)
    starts = range(0, len(everything), DOCUMENT_CHARACTERS)
    with path.open("w", encoding="utf-8") as file:
        for start in itertools.cycle(starts):
            text = everything[start : start + DOCUMENT_CHARACTERS]
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            if file.tell() > megabytes * 1_000_000:
                return path
    raise AssertionError("cycle never ends")


def _of_package_rwkv() -> WorldTokenizer:
    path = world_vocabulary_path()
    with contextlib.redirect_stdout(io.StringIO()):
        from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

        trie = TRIE_TOKENIZER(str(path))
    return WorldTokenizer(parse_vocabulary(path.read_bytes(), path), trie.encode)
