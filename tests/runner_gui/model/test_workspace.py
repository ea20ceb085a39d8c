from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner_gui.model.workspace import Workspace
from trainer.contract.errors import AppError
from trainer.contract.params import check


def test_the_environment_moves_the_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_HOME", str(tmp_path / "家 folder"))
    assert Workspace().root == tmp_path / "家 folder"


def test_without_it_the_root_is_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNNER_HOME", raising=False)
    assert Workspace().root.name == "RwkvLoraRunner"


def test_making_one_touches_nothing_and_prepare_makes_the_folders(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    assert not workspace.root.exists()
    workspace.prepare()
    workspace.prepare()
    assert sorted(p.name for p in workspace.root.iterdir()) == ["cache", "models", "runs"]


def test_a_root_that_is_a_file_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("in the way")
    with pytest.raises(AppError) as caught:
        Workspace(tmp_path / "w").prepare()
    assert caught.value.code == "not_writable"
    assert caught.value.problem.args["path"].startswith(str(tmp_path / "w"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_coded_error(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.prepare()
    workspace.runs.chmod(0o500)
    with pytest.raises(AppError) as caught:
        workspace.prepare()
    workspace.runs.chmod(0o700)
    assert caught.value.code == "not_writable"


def test_base_models_lists_model_files_only(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    for name in ("b.pth", "a.safetensors", "notes.txt", ".hidden.pth"):
        (workspace.models / name).write_bytes(b"x")
    (workspace.models / "folder.pth").mkdir()
    own = [p.name for p in workspace.base_models() if p.parent == workspace.models]
    assert own == ["a.safetensors", "b.pth"]


def test_a_merged_model_never_takes_a_name_that_exists(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    base = Path("/models/base x.pth")
    first = workspace.merged_model_path(base, "run", 50)
    assert first == workspace.models / "base x-LoRA-run-50.pth"
    first.write_bytes(b"kept")
    assert workspace.merged_model_path(base, "run", 50).name == "base x-LoRA-run-50-2.pth"


def test_the_bundled_sample_is_found_and_its_parameters_are_valid(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    data = workspace.demo_data()
    assert data is not None
    assert data.name == "sample.jsonl"
    style = workspace.demo_style()
    assert style is not None
    assert set(style) == {"en", "zh"}
    _, problems = check({"base_model": "any", **workspace.demo_params()})
    assert [p for p in problems if p.severity == "error"] == []


def test_models_may_lie_elsewhere(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.use_models_folder(str(tmp_path / "大 disk"))
    workspace.prepare()
    (tmp_path / "大 disk" / "a.pth").touch()
    assert workspace.base_models()[0] == tmp_path / "大 disk" / "a.pth"
    assert workspace.merged_model_path(Path("b.pth"), "r", 5).parent == tmp_path / "大 disk"
    workspace.use_models_folder("")
    assert workspace.models == tmp_path / "w" / "models"
