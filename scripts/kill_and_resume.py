"""Kills a run with SIGKILL again and again, and compares what comes of it with a run that was left alone.

    .venv/bin/python scripts/kill_and_resume.py --kills 100 --seed 1

One kill in five falls anywhere in the life of a process, two in steps and evaluations, and two in a save: a
moment after the folder that a checkpoint is written to has appeared. After each of them the run has to resume
from the newest checkpoint that it told of, and in the end every loss and every weight has to equal those of
the undisturbed run. The exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trainer.contract.events import Event, read_events  # noqa: E402
from trainer.contract.run_folder import RunFolder  # noqa: E402
from trainer.models.checkpoint import open_checkpoint  # noqa: E402

DEMO = ROOT / "assets" / "demo" / "rwkv7-demo-4m.pth"
# Small steps and many saves.
PARAMETERS = (
    "--ctx-len=64", "--epoch-steps=4", "--micro-bsz=1", "--accumulate-grad-batches=2", "--lora-r=4",
    "--lora-alpha=8", "--lora-dropout=0.1", "--precision=fp32", "--no-grad-cp", "--val-fraction=0.2",
    "--keep-last=2", "--device=cpu", "--no-drift",
)  # fmt: skip
Moment = Literal["start", "step", "save"]
# What a kill waits for, and how long after it the kill falls at the latest.
DELAYS_S: dict[Moment, float] = {"start": 6.0, "step": 0.6, "save": 0.06}
# What differs between two files of the same training: when it was, and the name of the run.
UNCOMPARED = ("lora_meta",)


def write_data(path: Path) -> None:
    """A few documents to learn from."""
    rows = (f"User: number {i}\n\nAssistant: {i} and {i * i % 97} and {i * 7 % 13}" for i in range(24))
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows), encoding="utf-8")


class Runs:
    """Starts and watches the trainer in one folder."""

    def __init__(self, folder: Path, base: Path, data: Path, epochs: int) -> None:
        self.run = RunFolder(folder)
        self._new = (
            f"--base-model={base}", f"--data={data}", f"--epoch-count={epochs}", *PARAMETERS,
        )  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on where there is something to go on with."""
        arguments = ("--resume",) if self.run.run_json.exists() else self._new
        command = [sys.executable, "-m", "trainer", "train", f"--run-dir={self.run.path}", *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self) -> None:
        """Train to the end.

        Raises:
            RuntimeError: it does not get there.
        """
        process = self.start()
        _, said = process.communicate()
        if process.returncode:
            raise RuntimeError(f"status {process.returncode}: {said.decode(errors='replace')[-2000:]}")

    def events(self) -> list[Event]:
        return read_events(self.run.events)[0] if self.run.events.exists() else []

    def kill_after(self, waited_for: Moment, delay_s: float, saves: int) -> str:
        """Start, kill a while after a moment; what it was doing then, or "completed" where it was quicker.

        Args:
            saves: how many have to succeed before the one that a kill may fall into.
        """
        before = len(self.events())

        def stepping() -> bool:
            return any(event.t == "step" for event in self.events()[before:])

        def saved() -> bool:
            return sum(event.t == "checkpoint" for event in self.events()[before:]) >= saves

        def saving() -> bool:
            return any(name.endswith(".tmp") for name in os.listdir(self.run.ckpt))

        # What an earlier kill left of a save is gone before the first step.
        waits = {"start": (), "step": (stepping,), "save": (stepping, saved, self.run.ckpt.is_dir, saving)}
        with self.start() as process:
            for reached in waits[waited_for]:
                while process.poll() is None and not reached():
                    time.sleep(0.0005)
            time.sleep(delay_s)
            process.kill()
        if self.run.status() == "completed":
            return "completed"
        phases = [event["name"] for event in self.events()[before:] if event.t == "phase"]
        return phases[-1] if phases else "starting"


def compare(broken: RunFolder, straight: RunFolder) -> list[str]:
    """Where a run that was killed differs from one that was not; the last of repeated steps counts."""
    found = []
    for kind, field in (("step", "loss"), ("eval", "loss")):
        a, b = (
            {e["step"]: e[field] for e in read_events(r.events)[0] if e.t == kind} for r in (broken, straight)
        )
        found += [f"{kind} {step}: {a.get(step)} and not {b[step]}" for step in b if a.get(step) != b[step]]
    a, b = (open_checkpoint(run.checkpoints()[-1].adapter) for run in (broken, straight))
    found += [
        name for name in b.infos if name not in UNCOMPARED and not np.array_equal(a.read(name), b.read(name))
    ]
    return found


def torment(runs: Runs, kills: int, rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Kill up to `kills` times, then let it finish.

    Returns:
        What each kill fell into, and where a resume went back behind a checkpoint.
    """
    fell: Counter[str] = Counter()
    lost: list[str] = []
    while fell.total() < kills:
        told = [event["step"] for event in runs.events() if event.t == "checkpoint"]
        at = len(runs.events())
        (waited_for,) = rng.choices(tuple(DELAYS_S), weights=(1, 2, 2))
        moment = runs.kill_after(waited_for, rng.uniform(0, DELAYS_S[waited_for]), rng.randrange(3))
        lost += [
            f"resumed from {event['resumed_from']}, although {max(told)} had been saved"
            for event in runs.events()[at:]
            if event.t == "hello" and told and (event["resumed_from"] or 0) < max(told)
        ]
        if moment == "completed":
            return fell, lost
        fell[moment] += 1
    runs.finish()
    return fell, lost


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=20, help="of each run, two steps and a save in each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base", type=Path, default=DEMO, help="a small model")
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    fell: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_data(root / "data.jsonl")
        straight = Runs(root / "straight", args.base, root / "data.jsonl", args.epochs)
        straight.finish()
        found: list[str] = []
        number = 0
        while fell.total() < args.kills:
            number += 1
            broken = Runs(root / f"broken-{number}", args.base, root / "data.jsonl", args.epochs)
            moments, lost = torment(broken, args.kills - fell.total(), rng)
            fell += moments
            found += [*lost, *compare(broken.run, straight.run)]
            print(f"run {number}: {moments.total()} kills, {len(found)} differences", flush=True)
    print(f"{fell.total()} kills: " + ", ".join(f"{n} {name}" for name, n in fell.most_common()))
    for line in found:
        print(line)
    print("different" if found else "every loss and every weight as undisturbed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
