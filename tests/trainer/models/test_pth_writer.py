from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from trainer.models.checkpoint import open_checkpoint
from trainer.models.pth_writer import ALIGNMENT, PthWriter, TensorPlan, state_dict_pickle

PLAN = {
    "emb.weight": TensorPlan("bf16", (7, 3)),
    "blocks.0.x": TensorPlan("fp32", (1, 1, 5)),
    "名.bias": TensorPlan("fp16", (2,)),
}
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}


def values() -> dict[str, torch.Tensor]:
    return {
        name: torch.arange(tensor.numel).reshape(tensor.shape).to(TYPES[tensor.dtype]) / 8
        for name, tensor in PLAN.items()
    }


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def write(path: Path) -> dict[str, int]:
    with open(path, "wb") as file, PthWriter(file, PLAN) as writer:
        # Block by block, at sizes that fall between elements.
        return {
            name: writer.write(name, [raw(tensor)[i : i + 5] for i in range(0, len(raw(tensor)), 5)])
            for name, tensor in values().items()
        }


def test_torch_reads_it_mapped_and_unmapped(tmp_path: Path) -> None:
    write(tmp_path / "out.pth")
    for mmap in (False, True):
        loaded = torch.load(tmp_path / "out.pth", weights_only=True, mmap=mmap)
        assert list(loaded) == list(PLAN)
        for name, tensor in values().items():
            assert loaded[name].dtype == tensor.dtype
            assert torch.equal(loaded[name], tensor)
            assert loaded[name].is_contiguous()


def test_our_reader_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "out.pth")
    file = open_checkpoint(tmp_path / "out.pth")
    assert all(torch.equal(file.tensor(name), tensor) for name, tensor in values().items())


def test_checksums_are_right_and_returned(tmp_path: Path) -> None:
    checksums = write(tmp_path / "out.pth")
    with zipfile.ZipFile(tmp_path / "out.pth") as archive:
        assert archive.testzip() is None
        stored = [archive.getinfo(f"archive/data/{i}").CRC for i in range(len(PLAN))]
    assert stored == list(checksums.values())


def test_records_are_aligned(tmp_path: Path) -> None:
    write(tmp_path / "out.pth")
    content = (tmp_path / "out.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "out.pth") as archive:
        for member in archive.infolist():
            name_bytes, extra_bytes = struct.unpack_from("<HH", content, member.header_offset + 26)
            assert (member.header_offset + 30 + name_bytes + extra_bytes) % ALIGNMENT == 0


def test_sizes_beyond_32_bits_survive_the_pickle() -> None:
    import pickletools

    body = state_dict_pickle({"emb.weight": TensorPlan("bf16", (70_000, 65_536))})
    numbers = [argument for _, argument, _ in pickletools.genops(body) if isinstance(argument, int)]
    assert 70_000 * 65_536 in numbers


def test_order_and_length_are_enforced() -> None:
    with pytest.raises(ValueError, match="not the next"), PthWriter(io.BytesIO(), PLAN) as writer:
        writer.write("blocks.0.x", [b""])
    with pytest.raises(ValueError, match="41 bytes, not 42"), PthWriter(io.BytesIO(), PLAN) as writer:
        writer.write("emb.weight", [bytes(41)])
    with pytest.raises(ValueError, match="3 tensors"), PthWriter(io.BytesIO(), PLAN):
        pass
