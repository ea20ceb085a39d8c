"""The kernels fit into GPUs that are not here: compiled ahead of time, as Triton does it before a start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

# What the smallest of these GPUs gives to a block.
SHARED_BYTES = 99 * 1024
# A GPU's fp32 has no units for products, so more of it is in registers at a time.
SPILLED_BYTES = {"bf16": 256, "fp32": 512}


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [*((capability, "bf16") for capability in (80, 86, 89, 90, 120)), (90, "fp32")],
)
@pytest.mark.timeout(600)
def test_shared_memory_and_registers(capability: int, dtype: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    script = Path(__file__).with_name("compile_kernels.py")
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run(
        [sys.executable, str(script), str(capability), dtype],
        stdout=subprocess.PIPE, check=True, text=True, env={**environment, "PYTHONPATH": str(root)},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert len(found) == 14
    for name, used in found.items():
        assert used["shared"] < SHARED_BYTES, (name, used)
        assert max(used["stores"], used["loads"]) < SPILLED_BYTES[dtype], (name, used)
