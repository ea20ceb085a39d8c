"""Looks at, estimates and trains RWKV-7 models of the published shapes, with random weights made on the fly.

    .venv/bin/python scripts/true_shapes.py            # 0.1b, 0.4b and 1.5b; 3.9 GB of disk for a while
    .venv/bin/python scripts/true_shapes.py 0.1b --steps 2

0.1b and 0.4b are also trained for a few steps on the CPU: losses have to begin at what random weights give
and to fall. The exit status is 1 where anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trainer.models.initial import initialise  # noqa: E402
from trainer.models.layouts import ModelSpec  # noqa: E402
from trainer.models.rwkv7 import RWKV7  # noqa: E402

VOCAB_SIZE = 65536


@dataclass(frozen=True)
class Shape:
    """ranks: of w, a, v and g (the table of RWKV-LM-V7). parameters: as `inspect` has to count them."""

    n_layer: int
    n_embd: int
    ranks: tuple[int, int, int, int]
    parameters: int
    trained: bool


SHAPES = {
    "0.1b": Shape(12, 768, (64, 64, 32, 128), 191_084_544, True),
    "0.4b": Shape(24, 1024, (64, 64, 32, 128), 450_834_432, True),
    "1.5b": Shape(24, 2048, (96, 96, 64, 256), 1_527_668_736, False),
}


def make(shape: Shape, path: Path) -> None:
    """Write the model in bf16, as the published ones are."""
    spec = ModelSpec(
        generation="7", n_layer=shape.n_layer, n_embd=shape.n_embd, dim_att=shape.n_embd,
        dim_ffn=4 * shape.n_embd, vocab_size=VOCAB_SIZE, head_size=64, n_head=shape.n_embd // 64,
        ranks=dict(zip("wavg", shape.ranks, strict=True)), layer0_v=True, dtypes=("bf16",), parameters=0,
    )  # fmt: skip
    model = initialise(RWKV7(spec), seed=1)
    torch.save({name: tensor.bfloat16() for name, tensor in model.state_dict().items()}, path)


def trainer(*arguments: str) -> dict[str, Any]:
    """The JSON object that one of the trainer's commands ends with."""
    command = [sys.executable, "-m", "trainer", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if not done.stdout.strip():
        raise RuntimeError(f"{arguments[0]}: status {done.returncode}, {done.stderr.decode()[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def check(name: str, folder: Path, data: Path, steps: int) -> list[str]:
    """What is wrong with the model of a published size; what was found is printed."""
    shape, base = SHAPES[name], folder / f"{name}.pth"
    make(shape, base)
    wrong: list[str] = []
    seen = trainer("inspect", str(base))
    if (seen["n_layer"], seen["n_embd"], seen["parameters"]) != (
        shape.n_layer, shape.n_embd, shape.parameters,
    ):  # fmt: skip
        wrong.append(f"{name}: inspect says {seen}")
    flags = (
        f"--base-model={base}", f"--data={data}", "--ctx-len=128", "--micro-bsz=1", "--lora-r=16",
        "--accumulate-grad-batches=1", f"--epoch-steps={steps}", "--epoch-count=1", "--device=cpu",
        "--lr-init=1e-3", "--lr-final=1e-3", "--precision=fp32", "--lora-dropout=0", "--no-drift",
    )  # fmt: skip
    needed = trainer("estimate", *flags)["total_bytes"]
    print(f"{name}: {shape.parameters:,} parameters, a run needs {needed / 1e9:.2f} GB", flush=True)
    # The weights in fp32 at least, and not ten times that.
    if not 4 * shape.parameters < needed < 10 * 4 * shape.parameters:
        wrong.append(f"{name}: estimated {needed} bytes")
    if shape.trained:
        wrong += _train(name, folder / name, flags)
    base.unlink()
    return wrong


def _train(name: str, run: Path, flags: tuple[str, ...]) -> list[str]:
    result = trainer("train", f"--run-dir={run}", *flags)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    steps = [event for event in events if event["t"] == "step"]
    losses = [event["loss"] for event in steps]
    shown, last = ", ".join(f"{loss:.3f}" for loss in losses), steps[-1]
    print(f"{name}: losses {shown}; {last['mem_bytes'] / 1e9:.2f} GB, {last['tok_s']:.0f} tokens a second")
    wrong = [] if result["status"] == "completed" else [f"{name}: {result}"]
    if not abs(losses[0] - math.log(VOCAB_SIZE)) < 1.0:
        wrong.append(f"{name}: begins at {losses[0]}")
    if not losses[-1] < losses[0]:
        wrong.append(f"{name}: does not learn")
    return wrong


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", choices=tuple(SHAPES), default=list(SHAPES))
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data.jsonl")
        # The same words again and again: one step is enough to see them coming.
        data.write_text("\n".join(json.dumps({"text": "the sea sings of rain " * 40}) for _ in range(8)))
        wrong = [line for size in args.sizes for line in check(size, Path(folder), data, args.steps)]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
