"""`estimate` as it is started: without torch, and honest about what it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.commands.estimate import as_json
from trainer.contract.params import check
from trainer.models.checkpoint import open_checkpoint
from trainer.models.spec import detect_file
from trainer.training.planning import plan

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from trainer.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def base(make_checkpoint: Callable[..., Any], tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "base.pth", vocab=65536)
    return tmp_path / "base.pth"


def found_by(*flags: str) -> tuple[int, dict[str, Any]]:
    """Status and result of a process that has no torch."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "estimate", *flags, "--device=cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_it_needs_no_torch_and_adds_up(base: Path) -> None:
    status, found = found_by(f"--base-model={base}", "--ctx-len=1024", "--epoch-count=2", "--epoch-steps=80")
    assert status == 0
    assert found["fits"]
    assert found["changes"] == {}
    parts = sum(found[f"{part}_bytes"] for part in ("process", "weights", "trained", "activations"))
    assert found["least_bytes"] <= found["total_bytes"]
    assert parts <= found["total_bytes"] or found["tight"]
    assert found["tokens"] == 1024 < found["largest_tokens"]
    assert found["total_steps"] == 2 * 80 // 8
    assert found["total_s"] == pytest.approx(found["step_s"] * found["total_steps"])


def test_whole_passes_are_counted_with_the_data(base: Path, tmp_path: Path) -> None:
    flags = (f"--base-model={base}", "--ctx-len=64", "--epoch-steps=0", "--epoch-count=3", "--no-packing")
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": f"a line of text {i}"}) for i in range(32)))
    assert found_by(*flags)[1]["total_steps"] is None
    _, found = found_by(*flags, f"--data={data}")
    assert found["total_steps"] == 3 * 32 // 8
    assert found["total_s"] is not None


def test_what_does_not_fit_ends_with_a_status_of_its_own(base: Path) -> None:
    command = [sys.executable, "-m", "trainer", "estimate", f"--base-model={base}", "--device=cpu"]
    flags = ["--ctx-len=1048576", "--micro-bsz=1024"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "does not fit  with " in done.stdout
    assert "micro_bsz=" in done.stdout


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "miss", "state", "full"])
@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
def test_every_kind_has_an_estimate(method: str, quant: str, base: Path) -> None:
    values = {"base_model": str(base), "data": "-", "method": method, "quant": quant, "device": "cpu"}
    params, _ = check(values)
    if params is None:
        assert method == "full"
        return
    file = open_checkpoint(base)
    found = as_json(plan(file.infos, detect_file(file), params), 10)
    assert json.loads(json.dumps(found)) == found
    assert found["total_bytes"] >= found["least_bytes"] > 0
    assert found["total_s"] > 0
