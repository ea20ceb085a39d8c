"""Kills a run with SIGKILL again and again, and compares what comes of it with a run that was left alone.

    .venv/bin/python scripts/kill_and_resume.py --kills 100 --seed 1

Every fifth kill falls anywhere in the life of a process, the others while it trains, evaluates and saves.
After each of them the run has to resume from the newest checkpoint that it told of, and in the end every loss
and every weight has to equal those of the undisturbed run. The exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trainer.contract.events import Event, read_events  # noqa: E402
from trainer.contract.run_folder import RunFolder  # noqa: E402
from trainer.models.checkpoint import open_checkpoint  # noqa: E402

DEMO = ROOT / "assets" / "demo" / "rwkv7-demo-4m.pth"
# Small steps and many saves: some kills have to fall into the middle of a save.
PARAMETERS = (
    "--ctx-len=64", "--epoch-steps=4", "--micro-bsz=1", "--accumulate-grad-batches=2", "--lora-r=4",
    "--lora-alpha=8", "--lora-dropout=0.1", "--precision=fp32", "--no-grad-cp", "--val-fraction=0.2",
    "--keep-last=2", "--device=cpu",
)  # fmt: skip
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

    def kill_within(self, delay_s: float, *, from_first_step: bool) -> str:
        """Start, kill at a moment; what it was doing then, or "completed" where it was quicker."""
        before = len(self.events())
        with self.start() as process:
            while from_first_step and process.poll() is None:
                if any(event.t == "step" for event in self.events()[before:]):
                    break
                time.sleep(0.005)
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
        anywhere = rng.random() < 0.2
        delay_s = rng.uniform(0, 6) if anywhere else rng.uniform(0, 0.6)
        moment = runs.kill_within(delay_s, from_first_step=not anywhere)
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
