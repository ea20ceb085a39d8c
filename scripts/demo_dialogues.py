"""Plain English and Chinese dialogues for the base model of the demonstration, made from word lists.

The lists lie in ``demo_corpus_lines/{en,zh}.txt``: blocks of questions (Q), answers (A) and rows (R) written
so that every question fits every answer of its block for every row. Sums are added here. The answers are
plain on purpose: the style of ``assets/demo/sample.jsonl`` has to come from the tuning alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Language = Literal["en", "zh"]

LINES = Path(__file__).resolve().parent / "demo_corpus_lines"
EXCHANGES = (1, 2, 3, 4)
EXCHANGE_WEIGHTS = (5, 3, 2, 1)  # most talks with the demonstration are one question long


@dataclass(frozen=True)
class Block:
    """Questions and answers that fit each other, with ``{0}``, ``{1}`` … standing for a row's fields."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def weight(self) -> float:
        """Root of the number of exchanges: a long list is met more often, but drowns no short one."""
        return math.sqrt(len(self.questions) * len(self.answers) * len(self.rows))

    def exchange(self, rng: random.Random) -> tuple[str, str]:
        """One question and its answer, drawn with ``rng``."""
        row = rng.choice(self.rows)
        question = rng.choice(self.questions).format(*row)
        answer = rng.choice(self.answers).format(*row)
        return _capital(question), _capital(answer)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def parse_blocks(text: str) -> list[Block]:
    """The blocks of a word-list file.

    Raises:
        ValueError: a line is neither a comment nor a Q, A or R, or a block lacks questions or answers.
    """
    blocks = []
    for paragraph in text.split("\n\n"):
        found: dict[str, list[str]] = {"Q": [], "A": [], "R": []}
        for line in paragraph.splitlines():
            if not line or line.startswith("#"):
                continue
            kind, _, rest = line.partition(" ")
            if kind not in found:
                raise ValueError(f"neither Q, A nor R: {line!r}")
            found[kind] += rest.split("; ") if kind == "R" else [rest]
        if not any(found.values()):
            continue
        if not found["Q"] or not found["A"]:
            raise ValueError(f"a block needs questions and answers: {paragraph[:80]!r}")
        rows = tuple(tuple(row.split("|")) for row in found["R"]) or ((),)
        blocks.append(Block(tuple(found["Q"]), tuple(found["A"]), rows))
    return blocks


def _sums() -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Rows ``(a, b, result)`` of small additions, subtractions and multiplications."""
    small = range(13)
    plus = [(str(a), str(b), str(a + b)) for a in small for b in small]
    minus = [(str(a), str(b), str(a - b)) for a in small for b in small if a >= b]
    times = [(str(a), str(b), str(a * b)) for a in range(2, 10) for b in range(2, 10)]
    return plus, minus, times


def load_blocks(language: Language) -> list[Block]:
    """All blocks of one language, with the sums."""
    blocks = parse_blocks((LINES / f"{language}.txt").read_text(encoding="utf-8"))
    words = {"en": ("plus", "minus", "times"), "zh": ("加", "减", "乘")}[language]
    for word, rows in zip(words, _sums(), strict=True):
        if language == "en":
            questions = (f"What is {{0}} {word} {{1}}?", f"How much is {{0}} {word} {{1}}?")
            answers = (f"{{0}} {word} {{1}} is {{2}}.", "It is {2}.")
        else:
            questions = (f"{{0}}{word}{{1}}等于多少？", f"请问{{0}}{word}{{1}}是几？")
            answers = (f"{{0}}{word}{{1}}等于{{2}}。", "等于{2}。")
        blocks.append(Block(questions, answers, tuple(rows)))
    return blocks


def dialogues(language: Language, seed: int) -> Iterator[str]:
    """Endless different dialogues in the World template, the same ones for the same seed."""
    rng = random.Random(f"{language}-{seed}")
    blocks = load_blocks(language)
    weights = [block.weight for block in blocks]
    seen: set[str] = set()
    while True:
        count = rng.choices(EXCHANGES, EXCHANGE_WEIGHTS)[0]
        drawn = [block.exchange(rng) for block in rng.choices(blocks, weights, k=count)]
        text = "\n\n".join(f"User: {question}\n\nAssistant: {answer}" for question, answer in drawn)
        if text not in seen:
            seen.add(text)
            yield text
