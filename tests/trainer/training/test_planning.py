"""Plans on machines of every size: what does not fit is changed as little as makes it fit."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.params import checked
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import ModelSpec, expected_shapes
from trainer.training import machine, planning
from trainer.training.duration import step_flops
from trainer.training.machine import Target, computes_in_bytes, graphics_cards, known_bf16_speedup, target
from trainer.training.planning import plan

SPEC = ModelSpec(
    "7", 12, 768, 768, 3072, 65536, 64, 12, {"w": 64, "a": 64, "v": 32, "g": 128}, layer0_v=True
)  # fmt: skip
INFOS = {name: TensorInfo("bf16", shape, 0) for name, shape in expected_shapes(SPEC).items()}
GIB = 1 << 30


def params(**values: Any) -> Any:
    return checked({"base_model": "b", "data": "d", "precision": "fp32", **values})


def planned(
    monkeypatch: pytest.MonkeyPatch, available: int, flops: float | None = 1e11, **values: Any
) -> Any:
    there = Target("cpu", "CPU", 2 * available, available, flops)
    monkeypatch.setattr(planning, "target", lambda _: there)
    return plan(INFOS, SPEC, params(**values))


def test_what_fits_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(monkeypatch, 64 * GIB)
    assert found.fits
    assert found.changes == {}
    assert found.tok_s == pytest.approx(1024 * 8 / found.step_s)
    assert planned(monkeypatch, 64 * GIB, None).step_s is None


@pytest.mark.parametrize(
    ("available", "values", "kinds"),
    [
        (4 * GIB, {"grad_cp": False, "micro_bsz": 4}, {"grad_cp"}),
        (3 * GIB, {"micro_bsz": 16}, {"micro_bsz", "accumulate_grad_batches"}),
        (5 * GIB // 2, {"ctx_len": 32768}, {"ctx_len"}),
        (2 * GIB, {"micro_bsz": 2, "ctx_len": 8192}, None),
    ],
)
def test_what_does_not_fit_is_changed_until_it_does(
    monkeypatch: pytest.MonkeyPatch, available: int, values: dict[str, Any], kinds: set[str] | None
) -> None:
    found = planned(monkeypatch, available, **values)
    assert not found.fits
    assert found.changes
    assert kinds is None or kinds <= set(found.changes)
    again = planned(monkeypatch, available, **{**values, **found.changes})
    assert again.fits
    # The batch that an update is made of stays as large.
    before, after = params(**values), params(**{**values, **found.changes})
    window = [p.micro_bsz * p.accumulate_grad_batches for p in (before, after)]
    assert window[1] >= window[0]


def test_nothing_helps_where_not_even_the_model_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(monkeypatch, GIB // 2)
    assert not found.fits
    assert found.changes is None
    assert found.memory.largest_tokens == 0


def test_flops_are_those_of_the_products() -> None:
    body = sum(
        i.numel
        for n, i in INFOS.items()
        if n.startswith("blocks.") and len(i.shape) == 2 and min(i.shape) > 12
    )
    head = INFOS["head.weight"].numel
    tokens = 1024 * 8
    frozen = step_flops(INFOS, params(method="state"), "none")
    assert frozen == pytest.approx(tokens * 4 * (body + head), rel=0.001)
    assert step_flops(INFOS, params(method="full"), "none") == pytest.approx(1.5 * frozen, rel=0.001)
    assert step_flops(INFOS, params(method="state"), "full") == pytest.approx(
        tokens * (6 * body + 4 * head), rel=0.001
    )


SMI = """#!/bin/sh
echo "NVIDIA H100 80GB HBM3, 81559, 80000"
echo "Some card, 24564, 1000"
echo "[N/A], [N/A], [N/A]"
"""


@pytest.mark.skipif(os.name != "posix", reason="a shell script plays the program")
def test_cards_as_their_driver_tells_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    first, second = graphics_cards()
    assert (first.kind, first.memory_bytes, first.available_bytes) == ("cuda", 81559 << 20, 80000 << 20)
    assert first.flops == pytest.approx(0.35 * 989e12)
    assert second.flops is None
    assert target(params()).name == first.name
    assert target(params(devices=2)).name == second.name  # the one with less room decides
    assert target(params(device="cpu")).kind == "cpu"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert graphics_cards() == []


def test_the_processor_as_it_was_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "cpu_flags", lambda: "flags : fpu sse")
    assert known_bf16_speedup() < 1
    assert computes_in_bytes(params(precision="bf16"), "cpu") == 4
    monkeypatch.setattr(machine, "cpu_flags", lambda: "flags : fpu amx_bf16")
    assert computes_in_bytes(params(precision="bf16"), "cpu") == 2
    assert computes_in_bytes(params(precision="fp32"), "cpu") == 4
    (tmp_path / "probe.json").write_text('{"key": {"cpu": "flags : fpu amx_bf16"}, "bf16_speedup": 0.5}')
    assert computes_in_bytes(params(precision="bf16"), "cpu") == 4
    (tmp_path / "probe.json").write_text("[]")
    assert computes_in_bytes(params(precision="bf16"), "cpu") == 2
    assert [computes_in_bytes(params(precision=p), "cuda") for p in ("bf16", "fp16", "tf32", "fp32")] == [
        2,
        2,
        4,
        4,
    ]


def test_the_heap_is_kept_tight_in_a_process_of_its_own() -> None:
    import subprocess
    import sys

    code = (
        "from trainer.training.heap import keep_tight\n"
        "import numpy as np, psutil\n"
        "print(keep_tight())\n"
        "rss = lambda: psutil.Process().memory_info().rss\n"
        "before = rss(); held = []\n"
        "for i in range(64):\n"
        "    held.append(np.ones(1 << 19, np.uint8)); pin = bytes(1000)\n"
        "grown = rss() - before; held.clear(); print(grown, rss() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    is_tight, sizes = done.stdout.splitlines()
    grown, left = map(int, sizes.split())
    assert grown > 30 << 20
    if is_tight == "True":
        assert left < 4 << 20
