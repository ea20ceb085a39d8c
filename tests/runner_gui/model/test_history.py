from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runner_gui.model.history import differences, history
from runner_gui.model.run_store import RunStore
from trainer.contract.run_folder import RunFolder, RunNotes

MakeRun = Callable[..., RunFolder]


def test_a_row_tells_how_far_its_run_came(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", 1.0, status="completed", step=10, loss=2.5, best_val_loss=None, seconds=61.0)
    make_run(tmp_path, "b", 2.0)
    newest, oldest = history(RunStore(tmp_path))
    assert (newest.name, newest.step, newest.loss, newest.info.status) == ("b", None, None, "interrupted")
    assert (oldest.step, oldest.loss, oldest.best_val_loss, oldest.seconds) == (10, 2.5, None, 61.0)


def test_a_summary_of_other_types_is_no_reason_to_fail(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", status="completed", step="ten", loss=[1])
    (row,) = history(RunStore(tmp_path))
    assert (row.step, row.loss) == (None, None)


def test_words_of_ones_own(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path, "a", status="stopped")
    folder.write_notes(RunNotes(name="海盗", note="second try, higher rate"))
    (row,) = history(RunStore(tmp_path))
    assert row.name == "海盗"
    assert row.words == "海盗 a second try, higher rate m d"
    folder.notes_json.write_text('{"name": 5}')
    assert history(RunStore(tmp_path))[0].name == "a"


def test_what_runs_differ_in(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", 1.0, {"lora_r": 8, "sample_prompts": ["x"], "old_name": 1})
    make_run(tmp_path, "b", 2.0, {"lora_r": 16, "sample_prompts": ("x",)})
    rows = history(RunStore(tmp_path))
    assert differences(rows) == [("lora_r", [16, 8]), ("old_name", [None, 1])]
    assert differences(rows[:1]) == []
    assert differences([rows[0], rows[0]]) == []
