"""How soon the window is there, and what a long run's events cost."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from runner_gui.model.series import RunSeries
from scripts.benchmarks.report import Row
from scripts.benchmarks.timing import in_child
from trainer.contract.events import EventWriter, read_events

ROOT = Path(__file__).resolve().parents[2]
EMPTY = """
import json, sys
from PySide6.QtWidgets import QApplication, QMainWindow
application = QApplication([])
window = QMainWindow(); window.show(); application.processEvents()
print(json.dumps({"torch": "torch" in sys.modules}))
"""
WINDOW = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from runner_gui.app import make_application
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.window import MainWindow
application = make_application([])
window = MainWindow(Workspace(Path(sys.argv[2])), Settings()); window.show(); application.processEvents()
print(json.dumps({"torch": "torch" in sys.modules}))
"""
STEP = {
    "epoch": 0, "loss": 2.123456789, "lr": 5e-5, "grad_norm": 0.987654321, "tok_s": 1234.5, "step_s": 0.41,
    "eta_s": 1000.5, "tokens": 123456789, "mem_bytes": 1234567890,
}  # fmt: skip


def rows(args: argparse.Namespace) -> Iterator[Row]:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    seconds: dict[str, list[float]] = {"empty": [], "window": []}
    peak: dict[str, int] = {}
    for _ in range(args.rounds or (2 if args.quick else 5)):
        for name, code in (("empty", EMPTY), ("window", WINDOW)):
            found, took_s, peak[name] = in_child(code, str(ROOT), str(args.work / "work"))
            seconds[name].append(took_s)
            if found["torch"]:
                raise RuntimeError("the window has imported torch")
    best = {name: statistics.median(times) for name, times in seconds.items()}
    yield Row("an empty Qt window, process and all", best["empty"], "s")
    yield Row(
        "the window, process and all",
        best["window"],
        "s",
        "an empty Qt window",
        best["empty"] / best["window"],
    )
    yield Row(
        "memory of the window",
        peak["window"] / 1e6,
        "MB",
        "an empty Qt window",
        peak["empty"] / peak["window"],
    )
    yield from _events(args.work, 10_000, 100_000 if args.quick else 1_000_000)


def _events(work: Path, few: int, many: int) -> Iterator[Row]:
    """What a step's event costs to write and to read, in a short and in a long run."""
    cost: dict[int, tuple[float, float]] = {}
    for count in (few, many):
        path = work / f"{count}.jsonl"
        started_s = time.perf_counter()
        writer = EventWriter(path, None)
        for step in range(count):
            writer.write("step", step=step, total=count, **STEP)
        writer.close()
        written_s = time.perf_counter()
        if len(read_events(path)[0]) != count:
            raise RuntimeError(f"{path} does not read back whole")
        cost[count] = (written_s - started_s) / count * 1e6, (time.perf_counter() - written_s) / count * 1e6
        started_s = time.thread_time()
        if len(RunSeries.from_file(path)) != count:
            raise RuntimeError(f"the curves of {path} are not whole")
        yield Row(f"a run of {count:,} steps opened, processor time", time.thread_time() - started_s, "s")
    for index, verb in enumerate(("written", "read")):
        small, large = cost[few][index], cost[many][index]
        yield Row(f"a step's event {verb}, {few:,} steps", small, "µs")
        yield Row(f"a step's event {verb}, {many:,} steps", large, "µs", f"{few:,} steps", small / large)
