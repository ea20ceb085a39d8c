from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from trainer.data.binidx import BinidxReader, BinidxWriter, ConvertMeta
from trainer.models.loading import load_model
from trainer.models.rwkv7 import RWKV7
from trainer.training.evaluation import CHUNK_TOKENS, Evaluation, evaluate, tokens_to_read

VOCAB = 300
# Longer than two chunks, exactly one, around the alignment, too short to have a target, and many short ones.
SIZES = [2500, CHUNK_TOKENS + 1, CHUNK_TOKENS, 0, 1, 2, 16, 17, 18, 33, *(3 + 7 * i % 40 for i in range(60))]

# One token at a time, as the package is used to talk; each document from nothing.
PACKAGE = """
import sys
import torch
from rwkv.model import RWKV

path, documents_path, out_path = sys.argv[1:]
model = RWKV(model=path.removesuffix(".pth"), strategy="cpu fp32")
losses = []
with torch.no_grad():
    for document in torch.load(documents_path, weights_only=True):
        tokens, state, found = document.tolist(), None, []
        for token, target in zip(tokens, tokens[1:]):
            logits, state = model.forward([token], state)
            found.append(-torch.log_softmax(logits.double(), 0)[target])
        losses.append(torch.tensor(found, dtype=torch.float64))
torch.save(losses, out_path)
"""


@dataclass(frozen=True)
class Case:
    """A model, documents, and the loss of every token by the package: losses[i][t] is of token t + 1."""

    model: RWKV7
    reader: BinidxReader
    losses: list[np.ndarray]

    def expected(self, documents: list[int], assistant_only: bool = False) -> tuple[float, int]:
        chosen = []
        for i in documents:
            mask = self.reader.mask(i)
            assert mask is not None
            chosen.append(self.losses[i][mask[1:] == 1] if assistant_only else self.losses[i])
        counted = np.concatenate(chosen)
        return float(counted.mean()), counted.size


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Case:
    folder = tmp_path_factory.mktemp("evaluation")
    make_checkpoint(folder / "m.pth", dtype="fp32", vocab=VOCAB, n_embd=32, head_size=16)
    rng = np.random.RandomState(0)
    documents = [rng.randint(0, VOCAB, size) for size in SIZES]
    with BinidxWriter(folder / "d", VOCAB) as writer:
        for ids in documents:
            # The first token may be marked too: it is nobody's target.
            writer.add(ids, (rng.rand(ids.size) < 0.3).astype(np.uint8))
            writer.end_document()
        writer.finish(
            ConvertMeta(
                data_name="d", data_sha256="0", vocab_sha256="1", tokenizer="world", vocab_size=VOCAB,
                documents=writer.documents, tokens=writer.tokens, assistant_tokens=writer.assistant_tokens,
                max_token=writer.max_token, skipped=0,
            )
        )  # fmt: skip
    torch.save([torch.from_numpy(ids) for ids in documents], folder / "documents.pt")
    argv = [str(folder / name) for name in ("m.pth", "documents.pt", "losses.pt")]
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE, *argv],
        env={**os.environ, "RWKV_V7_ON": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    losses = [loss.numpy() for loss in torch.load(folder / "losses.pt", weights_only=True)]
    return Case(load_model(folder / "m.pth"), BinidxReader(folder / "d"), losses)


@pytest.mark.parametrize(
    "documents",
    [[0], [1], [2], list(range(3, len(SIZES))), list(range(len(SIZES))), [3, 5, 6, 7], [69, 0, 10, 2]],
    ids=["long", "one chunk", "a token less", "short ones", "all", "around the alignment", "any order"],
)
@pytest.mark.parametrize("assistant_only", [False, True])
def test_equals_the_package_token_by_token(case: Case, documents: list[int], assistant_only: bool) -> None:
    loss, counted = case.expected(documents, assistant_only)
    got = evaluate(case.model, case.reader, documents, assistant_only=assistant_only)
    assert (got.counted_tokens, got.documents) == (counted, len(documents))
    assert got.loss == pytest.approx(loss, abs=1e-4)
    assert got.ppl == pytest.approx(math.exp(loss), rel=2e-4)


def test_the_mask_changes_the_figure(case: Case) -> None:
    everything, marked = (evaluate(case.model, case.reader, [0], assistant_only=a) for a in (False, True))
    assert marked.counted_tokens < 0.4 * everything.counted_tokens
    assert abs(marked.loss - everything.loss) > 1e-3


def test_nothing_to_count_is_no_number(case: Case) -> None:
    got = evaluate(case.model, case.reader, [3, 4])
    assert (got.counted_tokens, got.documents) == (0, 2)
    assert math.isnan(got.loss)
    assert math.isnan(got.ppl)


def test_a_hopeless_loss_has_a_perplexity_that_is_a_number() -> None:
    assert Evaluation(1e6, 1, 1).ppl == math.exp(700.0)
    assert Evaluation(0.0, 1, 1).ppl == 1.0


def test_the_model_stays_in_its_mode_without_gradients_and_progress_is_told(case: Case) -> None:
    done: list[int] = []
    case.model.train()
    case.model.ln_out.weight.requires_grad_(True)
    try:
        evaluate(case.model, case.reader, [0, 1], on_progress=done.append)
        assert case.model.training
        assert case.model.ln_out.weight.grad is None
    finally:
        case.model.ln_out.weight.requires_grad_(False)
        case.model.eval()
    # 2499 and 1024 inputs in whole blocks of 16, cut every 1024.
    assert done == [1024, 2048, 3072, 3536]
    assert tokens_to_read(case.reader.sizes[[0, 1]]) == 3536
    assert tokens_to_read(np.array([0, 1, 2, 17, 18], np.uint32)) == 0 + 0 + 16 + 16 + 32
    evaluate(case.model, case.reader, [0])
    assert not case.model.training


def test_it_stops_between_chunks(case: Case) -> None:
    asked = iter([True])
    got = evaluate(case.model, case.reader, [0], should_stop=lambda: next(asked))
    assert got.counted_tokens == CHUNK_TOKENS
    assert got.loss == pytest.approx(float(case.losses[0][:CHUNK_TOKENS].mean()), abs=1e-4)
