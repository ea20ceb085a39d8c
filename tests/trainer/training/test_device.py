from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from trainer.contract.errors import InputError, ParameterError
from trainer.contract.params import TrainParams, checked
from trainer.training import device
from trainer.training.device import Device, describe_devices, resolve_device


def params(**values: Any) -> TrainParams:
    return checked({"base_model": "b", "data": "d", **values})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """What torch says of the GPUs: this test's machine, whichever it runs on."""

    def pretend(gpus: int, capability: tuple[int, int] = (9, 0)) -> None:
        gpu = SimpleNamespace(name="GPU", total_memory=8 << 30, major=capability[0], minor=capability[1])
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
        monkeypatch.setattr(device, "bf16_speedup", lambda: 0.1)

    return pretend


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_what_only_cards_compute_in_is_refused_on_a_cpu(machine: Any, precision: str) -> None:
    machine(0)
    with pytest.raises(InputError) as error:
        resolve_device(params(precision=precision))
    assert error.value.code == "precision_unavailable"
    with pytest.raises(ParameterError):
        params(precision=precision, device="cpu")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_cpu_computes_in_fp32_and_says_so(machine: Any, precision: str) -> None:
    machine(0)
    got = resolve_device(params(precision=precision))
    assert (got.kind, got.dtype, got.tf32, got.needs_scaler) == ("cpu", torch.float32, False, False)
    notes = [(note.code, note.args) for note in got.notes]
    fallback = ("precision_fallback", {"asked": precision, "used": "fp32", "reason": "cpu"})
    assert notes == ([] if precision == "fp32" else [fallback])


def test_a_cpu_that_is_quicker_in_bf16_computes_in_it(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(0)
    monkeypatch.setattr(device, "bf16_speedup", lambda: 2.0)
    assert resolve_device(params(precision="bf16")) == Device("cpu", torch.bfloat16, False, ())
    assert resolve_device(params(precision="fp32")).dtype == torch.float32


@pytest.mark.parametrize(
    ("precision", "dtype", "tf32"),
    [
        ("bf16", torch.bfloat16, False),
        ("fp16", torch.float16, False),
        ("tf32", torch.float32, True),
        ("fp32", torch.float32, False),
    ],
)
def test_a_gpu_computes_as_asked(machine: Any, precision: str, dtype: torch.dtype, tf32: bool) -> None:
    machine(1)
    got = resolve_device(params(precision=precision))
    assert got == Device("cuda", dtype, tf32, ())
    assert got.needs_scaler == (precision == "fp16")


def test_a_gpu_without_bf16_computes_in_fp16_with_a_scaler(machine: Any) -> None:
    machine(1, (7, 5))
    got = resolve_device(params(precision="bf16"))
    assert (got.dtype, got.needs_scaler) == (torch.float16, True)
    assert [(note.code, note.args["asked"], note.args["used"]) for note in got.notes] == [
        ("precision_fallback", "bf16", "fp16")
    ]
    assert resolve_device(params(precision="fp32")).notes == ()
    with pytest.raises(InputError) as error:
        resolve_device(params(precision="tf32"))
    assert error.value.problem.args["offered"] == "fp16, fp32"
    machine(1, (8, 0))
    assert resolve_device(params(precision="bf16")).dtype == torch.bfloat16


def test_what_is_not_there_is_refused(machine: Any) -> None:
    machine(0)
    with pytest.raises(InputError) as error:
        resolve_device(params(device="cuda"))
    assert (error.value.code, error.value.problem.args["device"]) == ("device_unavailable", "cuda")
    machine(2)
    assert resolve_device(params(devices=2)).kind == "cuda"
    with pytest.raises(InputError) as error:
        resolve_device(params(devices=3))
    assert error.value.problem.args["device"] == "cuda × 3"


def test_what_is_said_of_the_devices(machine: Any) -> None:
    machine(2, (8, 6))
    assert describe_devices("cuda") == [{"name": "GPU", "memory_bytes": 8 << 30, "cc": "8.6"}] * 2
    (cpu,) = describe_devices("cpu")
    assert cpu == {
        "name": "cpu", "memory_bytes": psutil.virtual_memory().total, "threads": torch.get_num_threads(),
    }  # fmt: skip


def test_memory_grows_with_what_is_held() -> None:
    # In a process of its own: in this one, what other tests held may be given back in between.
    code = (
        "import os; from trainer.training.device import memory_bytes\n"
        "before = memory_bytes('cpu'); held = os.urandom(96 << 20)\n"
        "print(memory_bytes('cpu') - before, len(held))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, held = map(int, done.stdout.split())
    assert 90 << 20 < grown < 400 << 20
    assert held == 96 << 20
