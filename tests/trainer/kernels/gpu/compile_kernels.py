"""Compiles every kernel for a GPU that need not be there; prints a JSON object of registers and memory.

python compile_kernels.py CAPABILITY {bf16,fp32}
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from triton.backends.compiler import GPUTarget  # type: ignore[import-not-found]
from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability  # type: ignore[import-not-found]
from triton.compiler import ASTSource, compile  # type: ignore[import-not-found]

from trainer.kernels.chunks import CHUNK
from trainer.kernels.gpu import forms, states, wkv4, wkv4_scan, wkv7_chunks, wkv56_chunks

NUMBERS = {"T", "H", "A", "chunks"}
# Everything else has the element type of the model.
IN_FP32 = {"w_", "dw_", "du_", "first_", "last_", "states_", "dlast_", "inside_", "dfirst_"}


def kernels(precision: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    sizes = {"C": CHUNK, "N": 64, "P": precision}
    found = {
        "read": (states.read, sizes),
        "read_backward": (states.read_backward, sizes),
        "wkv7_gradients": (wkv7_chunks.wkv7_gradients, sizes),
        "wkv56_gradients": (wkv56_chunks.wkv56_gradients, sizes),
    }
    for kernel in (wkv4_scan.wkv4_forward, wkv4_scan.wkv4_backward):
        found[kernel.__name__] = (kernel, {"C": CHUNK, "BLOCK": wkv4.BLOCK})
    for whole in (True, False):
        found[f"wkv7_maps {whole}"] = (wkv7_chunks.wkv7_maps, {**sizes, "ALL": whole})
        found[f"wkv56_maps {whole}"] = (wkv56_chunks.wkv56_maps, {**sizes, "ALL": whole})
        for diagonal in (True, False):
            how = {"ROWS": forms.SCAN_ROWS, "N": 64, "P": precision, "DIAGONAL": diagonal, "REVERSE": whole}
            found[f"scan {diagonal} {whole}"] = (states.scan, how)
    return found


def compiled(kernel: Any, constants: dict[str, Any], capability: int, dtype: str) -> dict[str, int]:
    """Bytes of shared memory, of spilled registers stored and loaded."""
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in NUMBERS:
            signature[name] = "i32"
        elif name == "keep_":
            signature[name] = "*u8"
        elif name == "NOTHING":
            signature[name] = "fp32"
        else:
            signature[name] = "*fp32" if name in IN_FP32 or name[0].isupper() else f"*{dtype}"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    target = GPUTarget("cuda", capability, 32)
    warps = 1 if "BLOCK" in constants else forms.WARPS
    built = compile(source, target=target, options={"num_warps": warps})
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder, "kernel.ptx")
        ptx.write_text(built.asm["ptx"])
        arch = sm_arch_from_capability(capability)
        command = [get_ptxas(capability).path, "-v", f"--gpu-name={arch}", str(ptx), "-o", f"{folder}/out"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert spilled is not None, said
    return {"shared": built.metadata.shared, "stores": int(spilled[1]), "loads": int(spilled[2])}


def main() -> None:
    capability, dtype = int(sys.argv[1]), sys.argv[2]
    precision = forms.PRECISIONS[dtype == "fp32"]
    found = {
        name: compiled(kernel, constants, capability, dtype)
        for name, (kernel, constants) in kernels(precision).items()
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
