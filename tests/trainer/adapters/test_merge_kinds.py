"""Every kind of adapter merges, on every generation, to what base and adapter say together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.adapters import updates
from trainer.adapters.attach import adapter_tensors, attach, attach_adapter
from trainer.adapters.files import read_adapter, write_adapter
from trainer.adapters.merge import merge
from trainer.contract.adapter_meta import AdapterMeta
from trainer.models.loading import load_model

GENERATIONS = ("4", "5.0", "5.1", "5.2", "6", "7")
TOKENS = torch.arange(1, 40)[None]


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "miss", "full"])
def test_merged_is_base_and_adapter(
    tmp_path: Path,
    make_checkpoint: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    generation: str,
) -> None:
    monkeypatch.setattr(updates, "BLOCK_ELEMENTS", 1000)  # many blocks, the last one short
    base, file = tmp_path / "base.pth", tmp_path / "a.pth"
    make_checkpoint(base, generation, dtype="fp32")
    torch.manual_seed(1)
    model = load_model(base)
    attach(model, method, r=5, alpha=10.0, parts=("att", "ffn", "time", "ln", "emb", "head"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
        wanted = model.eval()(TOKENS)[0]
    r, alpha = (10, 10.0) if method == "pissa" else (5, 10.0)
    meta = AdapterMeta(
        method=method, r=r, alpha=alpha, generation=generation, n_layer=2, n_embd=64, base_name="base.pth",
        base_bytes=1, base_sha256="0", run_id="run", step=1, epoch=1, tokens=1, trainer="test",
    )  # fmt: skip
    write_adapter(file, adapter_tensors(model), meta)
    attached = load_model(base)
    attach_adapter(attached, read_adapter(file))
    merge(base, file, tmp_path / "merged.pth", verify=False)
    merged = load_model(tmp_path / "merged.pth")
    with torch.no_grad():
        torch.testing.assert_close(attached.eval()(TOKENS)[0], wanted, rtol=0, atol=1e-4)
        torch.testing.assert_close(merged.eval()(TOKENS)[0], wanted, rtol=0, atol=1e-4)
        assert not torch.allclose(load_model(base)(TOKENS)[0], wanted, atol=0.05)
