from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from trainer.models.checkpoint import open_checkpoint
from trainer.models.pth_writer import TensorPlan
from trainer.models.safetensors_writer import SafetensorsWriter

VALUES = {
    "emb.weight": torch.arange(21).reshape(7, 3).bfloat16() / 8,
    "blocks.0.x": torch.arange(5).reshape(1, 1, 5) / 8,
    '名 "$(x)".bias': torch.tensor([1.5, -2.0], dtype=torch.float16),
}
TYPES = {torch.bfloat16: "bf16", torch.float32: "fp32", torch.float16: "fp16"}
PLAN = {name: TensorPlan(TYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in VALUES.items()}


def raw(name: str) -> bytes:
    return VALUES[name].reshape(-1).view(torch.uint8).numpy().tobytes()


def write(path: Path) -> None:
    with open(path, "wb") as file, SafetensorsWriter(file, PLAN, {"made by": "名"}) as writer:
        for name in PLAN:
            # Block by block, at sizes that fall between elements.
            writer.write(name, [raw(name)[i : i + 5] for i in range(0, len(raw(name)), 5)])


def test_the_package_and_our_reader_read_it(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    write(path)
    loaded, ours = load_file(path), open_checkpoint(path)
    assert list(ours.infos) == list(VALUES)
    for name, tensor in VALUES.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
        assert torch.equal(ours.tensor(name), tensor)
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"format": "pt", "made by": "名"}


def test_tensors_start_at_multiples_of_eight(tmp_path: Path) -> None:
    write(tmp_path / "out.safetensors")
    content = (tmp_path / "out.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length])["emb.weight"]["data_offsets"] == [0, 42]


def test_what_does_not_follow_the_plan_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        writer = SafetensorsWriter(file, PLAN)
        with pytest.raises(ValueError, match="not the next"):
            writer.write("blocks.0.x", [])
        with pytest.raises(ValueError, match="bytes"):
            writer.write("emb.weight", [b"12"])
    with (
        pytest.raises(ValueError, match="not written"),
        open(tmp_path / "out", "wb") as file,
        SafetensorsWriter(file, PLAN),
    ):
        pass
