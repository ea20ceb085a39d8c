#!/usr/bin/env python3
"""Train the demo model from nothing, with this project's own trainer, on the text of `demo_corpus.py`.

    python scripts/demo_corpus.py --out DIR && python scripts/make_demo_model.py DIR/corpus.jsonl

Only a quarter of the World vocabulary occurs in the corpus. The model is trained with just those rows of
emb and head, which makes a step three times cheaper on a CPU, and gets the other rows back at the end: each
the row of a token that never came, pushed down by the direction that lowers a logit wherever the model may
be, with a little noise of its own, so that tuning can tell them apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.contract.files import atomic_write
from trainer.contract.run_folder import RunFolder
from trainer.data.binidx import BinidxReader, BinidxWriter
from trainer.data.cache import ensure_converted
from trainer.data.tokenizers import load_tokenizer
from trainer.models.initial import initialise
from trainer.models.layouts import ModelSpec
from trainer.models.rwkv7 import RWKV7

SAMPLE = Path(__file__).parents[1] / "assets" / "demo" / "sample.jsonl"
VOCAB_SIZE = 65536
BYTE_TOKENS = 257  # the end of a document, and every single byte: any text can be written with them
PUSH = 8.0  # by how much the logits of unseen tokens are lowered; more gains nothing
SPEC = ModelSpec(
    generation="7", n_layer=6, n_embd=128, dim_att=128, dim_ffn=512, vocab_size=VOCAB_SIZE, head_size=64,
    n_head=2, ranks={"w": 32, "a": 32, "v": 32, "g": 64}, layer0_v=False, dtypes=("bf16",), parameters=0,
)  # fmt: skip
TRAIN_FLAGS = (
    "--method", "full", "--ctx-len", "512", "--epoch-steps", "0", "--micro-bsz", "4",
    "--accumulate-grad-batches", "1", "--epoch-count", "1", "--lr-schedule", "cosine",
    "--warmup-steps", "40", "--beta2", "0.99", "--weight-decay", "0.05", "--val-fraction", "0.01",
    "--eval-every", "400", "--precision", "fp32", "--no-grad-cp",
)  # fmt: skip
# One pass over the corpus each, the later ones gentler and in another order.
ROUNDS = (
    ("--seed", "42", "--lr-init", "2e-3", "--lr-final", "1e-4"),
    ("--seed", "43", "--lr-init", "1e-3", "--lr-final", "5e-5"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("assets/demo/rwkv7-demo-4m.pth"))
    parser.add_argument("--work-dir", type=Path, default=Path("corpus"))
    args = parser.parse_args()
    prefix = ensure_converted(args.corpus, None, VOCAB_SIZE, args.work_dir / "cache")
    reader = BinidxReader(prefix)
    used = used_tokens(reader, SAMPLE)
    compact = compact_data(reader, used, args.work_dir / "compact")
    spec = replace(SPEC, vocab_size=len(used) + 1)
    tensors = initialise(RWKV7(spec), seed=7).state_dict()
    for number, flags in enumerate(ROUNDS, 1):
        start = args.work_dir / f"start-{number}.pth"
        save(tensors, start, torch.float32)
        tensors = train(start, compact, RunFolder(args.work_dir / f"run-{number}"), flags)
    finish(tensors, spec, used, reader, args.out)
    return 0


def used_tokens(reader: BinidxReader, sample: Path) -> np.ndarray:
    """Sorted ids that need a row of their own: the corpus's, the sample's, and every byte."""
    seen = np.zeros(VOCAB_SIZE, dtype=bool)
    seen[:BYTE_TOKENS] = True
    for document in range(len(reader)):
        seen[reader[document]] = True
    seen[load_tokenizer(None, VOCAB_SIZE).encode(sample.read_text(encoding="utf-8"))] = True
    return np.flatnonzero(seen)


def compact_data(reader: BinidxReader, used: np.ndarray, prefix: Path) -> Path:
    """The same documents in ids 0 … len(used) - 1; id len(used) stands for all other tokens."""
    to_compact = np.full(VOCAB_SIZE, len(used))
    to_compact[used] = np.arange(len(used))
    assert reader.meta is not None
    with BinidxWriter(prefix, len(used) + 1) as writer:
        for document in range(len(reader)):
            ids = to_compact[reader[document]]
            writer.add(ids, np.ones(ids.size, dtype=np.uint8))
            writer.end_document()
        writer.finish(reader.meta.model_copy(update={"max_token": len(used) - 1}))
    return prefix


def train(start: Path, data: Path, run: RunFolder, flags: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors that a run of the trainer ends with; one that was interrupted goes on."""
    command = [sys.executable, "-m", "trainer", "train", "--run-dir", str(run.path)]
    if run.run_json.exists():
        command.append("--resume")
    else:
        command += ["--base-model", str(start), "--data", str(data)]
        command += [*TRAIN_FLAGS, *flags]
    if run.status() != "completed":
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    adapter = torch.load(run.checkpoints()[-1].adapter, weights_only=True)
    return {name: tensor for name, tensor in adapter.items() if name != "lora_meta"}


def finish(
    tensors: dict[str, Tensor], spec: ModelSpec, used: np.ndarray, reader: BinidxReader, out: Path
) -> None:
    """Give the trained model its whole vocabulary back and write it in bf16."""
    model = RWKV7(spec)
    model.load_state_dict(tensors)
    wide = {**tensors, "emb.weight": widen(tensors["emb.weight"], used, noise=1e-4)}
    hidden = hidden_vectors(model, used, reader)
    away = lowering_direction(hidden)
    head = widen(tensors["head.weight"], used, noise=1e-3, shift=PUSH * away)
    print(f"unseen tokens get {unseen_mass(hidden, head, used):.2e} of the probability")
    save({**wide, "head.weight": head}, out, torch.bfloat16)
    print(f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB")


def widen(rows: Tensor, used: np.ndarray, *, noise: float, shift: Tensor | float = 0.0) -> Tensor:
    """[len(used) + 1, C] -> [V, C]: the last row, shifted and with noise, for every token without its own."""
    generator = torch.Generator().manual_seed(11)
    wide = rows[-1] + shift + torch.randn(VOCAB_SIZE, rows.shape[1], generator=generator) * noise
    wide[torch.from_numpy(used)] = rows[:-1]
    return wide


@torch.no_grad()
def hidden_vectors(model: RWKV7, used: np.ndarray, reader: BinidxReader) -> Tensor:
    """[positions, C] of some documents of the corpus."""
    to_compact = np.zeros(VOCAB_SIZE, dtype=np.int64)
    to_compact[used] = np.arange(len(used))
    some = range(0, len(reader), max(1, len(reader) // 50))
    parts = [model(torch.from_numpy(to_compact[reader[document]])[None])[0][0] for document in some]
    return torch.cat(parts)


def lowering_direction(hidden: Tensor) -> Tensor:
    """[C]: the row whose logit is closest to -1 at every position (least squares)."""
    C = hidden.shape[1]
    gram = hidden.t() @ hidden + 1e-3 * len(hidden) * torch.eye(C)
    return torch.linalg.solve(gram, -hidden.sum(0))


def unseen_mass(hidden: Tensor, head: Tensor, used: np.ndarray) -> float:
    """Mean probability that the widened head gives to all tokens that the corpus does not have."""
    unseen = torch.ones(VOCAB_SIZE, dtype=torch.bool)
    unseen[torch.from_numpy(used)] = False
    shares = [torch.softmax(part @ head.t(), -1)[:, unseen].sum(-1) for part in hidden.split(256)]
    return float(torch.cat(shares).mean())


def save(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    with atomic_write(path) as file:
        torch.save({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, file)


if __name__ == "__main__":
    sys.exit(main())
