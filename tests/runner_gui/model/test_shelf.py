from __future__ import annotations

from pathlib import Path

from runner_gui.model.shelf import shelf_entry

FACTS = {"bytes": 10, "modified_ts": 1.5}


def model(path: str) -> dict[str, object]:
    return {"kind": "model", "path": path, "generation": "7", "parameters": 9, "dtype": "bf16", **FACTS}


def test_a_merged_model_is_told_by_its_name() -> None:
    entry = shelf_entry(model("/m/RWKV x070-LoRA-20260104-142233-小说-500-2.pth"))
    assert entry.kind == "merged"
    assert entry.origin == ("RWKV x070", "20260104-142233-小说", 500)
    assert entry.is_model


def test_a_base_model() -> None:
    entry = shelf_entry(model("/m/base-LoRA.pth"))
    assert (entry.kind, entry.origin, entry.size_bytes) == ("base", None, 10)


def test_a_checkpoint_is_called_by_its_run_and_step() -> None:
    raw = {"kind": "adapter", "path": "/w/runs/r-1/ckpt/000500/adapter.pth", "base": "b.pth", "step": 500,
           "dtypes": ["fp32"], "r": 8, "parameters": 4, "generation": "7", **FACTS}  # fmt: skip
    entry = shelf_entry(raw)
    assert entry.name == "r-1 · 500"
    assert entry.origin == ("b.pth", "r-1", 500)
    assert not entry.is_model
    loose = shelf_entry({**raw, "path": "/m/some.pth", "base": None, "step": None})
    assert (loose.name, loose.origin) == ("some.pth", None)


def test_what_is_refused_says_why() -> None:
    raw = {"kind": "refused", "path": "/m/x.pth", "code": "model_not_rwkv", "args": {"path": "x"}, **FACTS}
    entry = shelf_entry(raw)
    assert entry.problem is not None
    assert entry.problem.code == "model_not_rwkv"
    assert entry.path == Path("/m/x.pth")
