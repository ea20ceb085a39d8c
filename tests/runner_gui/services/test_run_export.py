from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from runner_gui.model.series import RunSeries
from runner_gui.services.run_export import export_csv
from trainer.contract.errors import AppError


def series(path: Path) -> RunSeries:
    step = {
        "t": "step",
        "epoch": 0,
        "total": 9,
        "lr": 1e-4,
        "grad_norm": 1.5,
        "tok_s": 10.0,
        "mem_bytes": 2**31,
    }
    events = [
        {"t": "eval", "step": 0, "loss": 3.25},
        {**step, "step": 1, "loss": 3.0},
        {**step, "step": 2, "loss": None, "nonfinite": "nan"},
        {**step, "step": 2, "loss": 2.5},  # done again after a resume
        {"t": "eval", "step": 2, "loss": 2.75},
    ]
    path.write_text(
        "".join(json.dumps({"v": 1, "seq": seq, "ts": 1.0, **e}) + "\n" for seq, e in enumerate(events))
    )
    return RunSeries.from_file(path)


def test_a_line_for_each_step_and_validation(tmp_path: Path) -> None:
    out = tmp_path / "曲线 a.csv"
    export_csv(series(tmp_path / "events.jsonl"), out)
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["step"], r["loss"], r["val_loss"]) for r in rows] == [
        ("0", "", "3.25"), ("1", "3.0", ""), ("2", "2.5", "2.75"),
    ]  # fmt: skip
    assert rows[1]["mem_bytes"] == str(2**31)
    assert rows[0]["lr"] == ""
    assert rows[1]["lr"] == "0.0001"


def test_a_folder_that_is_not_there_is_made_and_a_file_in_the_way_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(AppError):
        export_csv(RunSeries(), tmp_path / "file" / "a.csv")
    export_csv(RunSeries(), tmp_path / "new" / "a.csv")
    assert (tmp_path / "new" / "a.csv").read_text().startswith("step,loss")
