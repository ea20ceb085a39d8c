"""A few kills of the hundred that the script does by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from trainer.contract.run_folder import RunFolder

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("kill_and_resume")


@pytest.mark.timeout(240)
def test_killed_at_random_moments_it_ends_as_if_left_alone(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--kills=2", "--epochs=3", "--seed=3"]) == 0
    assert "2 kills" in capsys.readouterr().out


@pytest.mark.timeout(120)
def test_it_sees_a_difference(script: ModuleType, tmp_path: Path) -> None:
    script.write_data(tmp_path / "data.jsonl")
    runs = script.Runs(tmp_path / "run", script.DEMO, tmp_path / "data.jsonl", 2)
    runs.finish()
    other = RunFolder(tmp_path / "other")
    other.path.symlink_to(runs.run.path)
    assert script.compare(other, runs.run) == []
    adapter = runs.run.checkpoints()[-1].adapter
    other.path.unlink()
    other.checkpoint_folder(4).mkdir(parents=True)
    for name in ("meta.json", "adapter.json"):
        (other.checkpoint_folder(4) / name).write_bytes((adapter.parent / name).read_bytes())
    tensors = torch.load(adapter)
    tensors["blocks.0.att.key.lora_B"][0, 0] += 1
    torch.save(tensors, other.checkpoint_folder(4) / "adapter.pth")
    lines = runs.run.events.read_text().splitlines()
    other.events.write_text("\n".join(line for line in lines if '"step": 2' not in line))
    found = script.compare(other, runs.run)
    assert found[0].startswith("step 2: None and not ")
    assert found[-1] == "blocks.0.att.key.lora_B"
