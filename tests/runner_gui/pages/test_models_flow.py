"""What is offered after a run, by what it has trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner_gui.pages.models_flow import ModelsFlow
from runner_gui.window import MainWindow
from trainer.contract.files import write_json
from trainer.contract.run_folder import CheckpointMeta, RunFolder


@pytest.mark.parametrize(("method", "merges"), [("lora", True), ("state", False)])
def test_a_tuned_state_of_rwkv_7_is_tried_and_not_merged(
    method: str, merges: bool, window: MainWindow, make_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "runs", "run", params={"method": method}, status="completed")
    meta = CheckpointMeta(step=3, epoch=0, kind="final", tokens=1, created_ts=1.0, bytes=1)
    write_json(folder.checkpoint_folder(3) / "meta.json", meta.model_dump(mode="json"))
    flow: ModelsFlow = window.train_page.flow
    flow.offer_result(folder, "completed")
    notice = window.train_page.banner.notice
    assert notice is not None
    main = [action.key for action in notice.actions if action.main]
    assert main == ["checkpoints.merge" if merges else "checkpoints.try"]
    assert ("checkpoints.merge" in [action.key for action in notice.actions]) is merges
    dialog = flow.ask_merge(folder, str(folder.checkpoint_folder(3)))
    assert (dialog is not None) is merges
    if dialog is None:
        notice = window.train_page.banner.notice
        assert notice is not None
        assert notice.problem is not None
        assert (notice.kind, notice.problem.args["generation"]) == ("error", "7")
    else:
        dialog.close()
