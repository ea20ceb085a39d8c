"""What converted data is like: sizes, lengths, what fits the context, doubtful documents, first samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.data.binidx import BinidxReader
from trainer.data.documents import Document
from trainer.data.findings import Duplicates, Findings
from trainer.data.tokenizers import Tokenizer

SAMPLES = 5
SAMPLE_TOKENS = 400
# The context length to recommend is the smallest of these that takes most documents whole; beyond the last
# one documents are better cut than memory spent.
_CTX_LENS = (128, 256, 512, 1024, 2048, 4096)
_MOST = 0.95
_PERCENTILES = (50, 90, 99)


def describe(reader: BinidxReader, tokenizer: Tokenizer | None, ctx_len: int) -> dict[str, Any]:
    """Facts about converted data, as JSON.

    Args:
        tokenizer: to show samples with; None shows the ids.
        ctx_len: tokens that are read at once.
    """
    meta = reader.meta
    duplicates = meta.duplicates if meta is not None else _duplicates(reader)
    remarks = {} if meta is None else {name: found.model_dump() for name, found in meta.remarks.items()}
    return {
        "documents": reader.documents,
        "tokens": reader.tokens,
        "assistant_tokens": None if meta is None else meta.assistant_tokens,
        "shapes": {"binidx": reader.documents} if meta is None else meta.shapes,
        "skipped": 0 if meta is None else meta.skipped,
        "lengths": _lengths(reader.sizes),
        # The first token of a document is only read, so one of ctx_len + 1 tokens fits.
        "fits_share": float(np.mean(reader.sizes <= ctx_len + 1)),
        "recommended_ctx_len": recommended_ctx_len(reader.sizes),
        "remarks": remarks,
        "duplicates": duplicates.model_dump(),
        "samples": [_sample(reader, i, tokenizer) for i in range(min(SAMPLES, reader.documents))],
    }


def recommended_ctx_len(sizes: np.ndarray) -> int:
    """The smallest usual context length that takes most documents whole, or the longest one.

    Args:
        sizes: tokens of each document, [n].
    """
    return next((n for n in _CTX_LENS if np.mean(sizes <= n + 1) >= _MOST), _CTX_LENS[-1])


def _lengths(sizes: np.ndarray) -> dict[str, Any]:
    """Lengths of documents in tokens; the histogram counts those of at most `upto` and more than the last."""
    # Powers of two: document lengths spread over many orders of magnitude.
    exponents = np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    counts = np.bincount(exponents)
    first = int(np.flatnonzero(counts)[0])
    percentiles = np.percentile(sizes, _PERCENTILES, method="lower")
    return {
        "shortest": int(sizes.min()),
        "longest": int(sizes.max()),
        "mean": float(sizes.mean()),
        **{f"p{p}": int(value) for p, value in zip(_PERCENTILES, percentiles, strict=True)},
        "histogram": [
            {"upto": 1 << exponent, "documents": int(counts[exponent])}
            for exponent in range(first, counts.size)
        ],
    }


def _duplicates(reader: BinidxReader) -> Duplicates:
    """Of data that another tool has converted."""
    findings = Findings()
    for i in range(reader.documents):
        findings.begin(Document(()))
        findings.add(reader[i])
        findings.end()
    return findings.duplicates()


def _sample(reader: BinidxReader, i: int, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The beginning of a document: its tokens and which of them count (all, where nothing says so)."""
    ids = reader[i][:SAMPLE_TOKENS].tolist()
    mask = reader.mask(i)
    return {
        "texts": [_token_text(token, tokenizer) for token in ids],
        "ids": ids,
        "counts": [True] * len(ids) if mask is None else mask[: len(ids)].astype(bool).tolist(),
        "tokens": int(reader.sizes[i]),
    }


def _token_text(token: int, tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return f"<{token}>"
    # A token may hold part of a character; its bytes are shown then.
    return tokenizer.decode_bytes([token]).decode("utf-8", errors="backslashreplace")
