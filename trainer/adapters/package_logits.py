"""`python package_logits.py MODEL GENERATION '[1, 2]'`: the last token's logits by the package `rwkv`."""

from __future__ import annotations

import json
import os
import sys


def main(argv: list[str]) -> int:
    """Print the logits as one JSON list, the last line of stdout."""
    path, generation, tokens = argv
    # Read when the package is imported.
    os.environ.update(RWKV_V7_ON="1" if generation == "7" else "0", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
    from rwkv.model import RWKV

    if path.endswith(".safetensors"):  # which the package itself does not read
        import torch
        from safetensors.torch import load_file

        torch.load = lambda *_, **__: load_file(path)
    model = RWKV(model=path.removesuffix(".pth"), strategy="cpu fp32")
    logits, _ = model.forward(json.loads(tokens), None)
    sys.stdout.write("\n" + json.dumps(logits.float().tolist()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
