"""The parts of `scripts/bench` that its numbers rest on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[2]
BENCH = str(ROOT / "scripts" / "bench")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT))
    yield
    for name in [name for name in sys.modules if name.startswith("scripts.benchmarks")]:
        del sys.modules[name]


def test_cases_run_by_turns_and_the_ratio_is_that_of_the_same_round() -> None:
    from scripts.benchmarks.timing import by_turns

    order: list[str] = []

    def case(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    times = by_turns({"slow": lambda: case("slow", 0.02), "fast": lambda: case("fast", 0.002)}, rounds=2)
    assert order == ["fast", "slow", "slow", "fast", "fast", "slow"]
    assert times.speedup("fast", "slow") > 2
    assert times.speedup("slow", "fast") < 0.5
    assert 0.02 <= times.median_s("slow") < 1


def test_the_object_has_every_field_and_is_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    from scripts.benchmarks.report import Row, show

    show("wkv", [Row("a case", 1.5, "s", "another", 2.0, 0.5), Row("alone", 1234.0, "MB")], as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert "2.00×" in lines[1]
    assert "50%" in lines[1]
    assert "1,234" in lines[2]
    found = json.loads(lines[-1])
    assert list(found) == ["name", "machine", "versions", "rows"]
    assert found["versions"]["torch"] == torch.__version__
    assert found["rows"][0] == {
        "case": "a case", "value": 1.5, "unit": "s", "baseline": "another", "ratio": 2.0, "limit_share": 0.5,
    }  # fmt: skip


def test_memory_of_a_child_is_its_own() -> None:
    from scripts.benchmarks.timing import in_child

    ballast = bytearray(200_000_000)
    found, seconds, peak_bytes = in_child("import sys; x = bytearray(50_000_000); print(sys.argv[1])", "7")
    assert found == 7
    assert seconds > 0
    assert 50_000_000 < peak_bytes < len(ballast)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_flops_of_the_limit_are_those_that_a_step_does(share: float) -> None:
    from scripts.benchmarks.models import lora_model, our_step, product_flops, rwkv7_spec, tokens_and_targets

    T = 32
    spec = replace(rwkv7_spec(3, 128), vocab_size=4096)
    tokens, targets = tokens_and_targets(1, T, share)
    step = our_step(lora_model(spec))
    with FlopCounterMode(display=False) as counted:
        step(tokens % 4096, torch.where(targets >= 0, targets % 4096, targets))
    # The first layer's inputs need no gradient, which the formula does not know, and chunks are counted too
    # where there is no compiler.
    assert counted.get_total_flops() == pytest.approx(product_flops(spec, T, round(T * share)), rel=0.15)


def test_the_naive_step_is_the_same_update() -> None:
    from scripts.benchmarks.models import lora_model, naive_step, our_step, rwkv7_spec, tokens_and_targets

    batch = tokens_and_targets(1, 20)
    losses = []
    for make in (our_step, naive_step):
        torch.manual_seed(0)
        step = make(lora_model(rwkv7_spec(2, 64)))
        losses.append([step(*batch) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][2] < losses[0][0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so() -> None:
    done = subprocess.run(
        [sys.executable, BENCH, "gpu"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "no GPU" in done.stderr
