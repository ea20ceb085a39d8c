"""What data may be recognised as, and what may be noticed about it; the catalogue has a name for each."""

from __future__ import annotations

from typing import Literal

Shape = Literal[
    "text", "messages", "conversations", "alpaca", "instruction", "prompt_completion", "question_answer",
    "binidx",
]  # fmt: skip
# Reasons to look at a document again; it is used all the same.
Remark = Literal["empty_answer", "unbalanced_roles", "mojibake", "very_long"]
