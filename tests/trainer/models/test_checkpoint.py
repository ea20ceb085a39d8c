from __future__ import annotations

import os
import pickle
import struct
import tarfile
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainer.contract.errors import InputError
from trainer.models import pickle_header
from trainer.models.checkpoint import open_checkpoint


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)  # one sentence that names the file
    assert "\n" not in str(caught.value)
    return caught.value


def assert_reads(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    file = open_checkpoint(path)
    assert list(file.infos) == list(tensors)
    for name, tensor in tensors.items():
        found = file.tensor(name)
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor), name
        assert file.infos[name].shape == tuple(tensor.shape)
        assert file.infos[name].nbytes == tensor.numel() * tensor.element_size()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("new_format", [True, False])
def test_reads_what_torch_saved(
    tmp_path: Path, checkpoint_tensors: Any, dtype: str, new_format: bool
) -> None:
    tensors = checkpoint_tensors("7", dtype=dtype)
    path = tmp_path / "model.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=new_format)
    assert_reads(path, tensors)
    assert {info.dtype for info in open_checkpoint(path).infos.values()} == {dtype}


def test_reads_safetensors_whatever_its_name(tmp_path: Path, checkpoint_tensors: Any) -> None:
    tensors = checkpoint_tensors("7")
    save_file(tensors, tmp_path / "model.pth")
    file = open_checkpoint(tmp_path / "model.pth")
    assert set(file.infos) == set(tensors)
    assert all(torch.equal(file.tensor(name), tensor) for name, tensor in tensors.items())


def test_reads_every_element_type(tmp_path: Path) -> None:
    types = [
        torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    ]  # fmt: skip
    tensors = {str(dtype): torch.tensor([[0.0, 1.0, 2.0]]).to(dtype) for dtype in types}
    tensors["bool"] = torch.tensor([True, False])
    torch.save(tensors, tmp_path / "types.pth")
    file = open_checkpoint(tmp_path / "types.pth")
    for name, tensor in tensors.items():
        assert file.tensor(name).dtype == tensor.dtype
        assert torch.equal(file.tensor(name).double(), tensor.double())


def test_reads_views_strides_and_shared_storages(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "transposed": whole.t(), "rows": whole[1:3], "column": whole[:, 2], "steps": whole[::2, 1::3],
        "expanded": torch.tensor([[7.0]]).expand(3, 2), "scalar": torch.tensor(5.0),
        "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(whole[3:]).detach(),
        "permuted": whole.reshape(2, 3, 4).permute(2, 0, 1),
    }  # fmt: skip
    torch.save({**tensors, "parameter": torch.nn.Parameter(whole[3:])}, tmp_path / "views.pth")
    assert_reads(tmp_path / "views.pth", tensors)


@pytest.mark.parametrize("name", ["rows", "transposed"])
def test_blocks_are_the_rows_in_order(tmp_path: Path, name: str) -> None:
    whole = torch.arange(60.0).reshape(10, 6)
    tensors = {"rows": whole, "transposed": whole.t()}
    torch.save(tensors, tmp_path / "model.pth")
    blocks = list(open_checkpoint(tmp_path / "model.pth").blocks(name, 20))
    assert max(block.size for block in blocks) <= 20
    assert len(blocks) > 2
    assert torch.equal(torch.cat([torch.from_numpy(block) for block in blocks]), tensors[name])


def test_reads_compressed_records(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(5000.0), "b": torch.ones(7)}
    torch.save(tensors, tmp_path / "stored.pth")
    with (
        zipfile.ZipFile(tmp_path / "stored.pth") as stored,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in stored.namelist():
            small.writestr(name, stored.read(name))
    assert (tmp_path / "small.pth").stat().st_size < (tmp_path / "stored.pth").stat().st_size
    assert_reads(tmp_path / "small.pth", tensors)


@pytest.mark.parametrize("prefix", ["_forward_module.", "model.", "module.", "_forward_module.model."])
def test_strips_trainers_prefixes(tmp_path: Path, prefix: str) -> None:
    torch.save({f"{prefix}emb.weight": torch.ones(2)}, tmp_path / "model.pth")
    assert list(open_checkpoint(tmp_path / "model.pth").infos) == ["emb.weight"]


def test_refuses_two_keys_that_become_one(tmp_path: Path) -> None:
    torch.save({"model.emb.weight": torch.ones(2), "emb.weight": torch.ones(2)}, tmp_path / "model.pth")
    assert refusal(tmp_path / "model.pth").code == "model_unreadable"


def test_finds_the_model_in_a_training_checkpoint(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    checkpoint = {
        "epoch": 3,
        "lr": 1e-4,
        "model": {"state_dict": model.state_dict()},
        "other": [torch.ones(1)],
    }
    torch.save(checkpoint, tmp_path / "training.pth")
    assert_reads(tmp_path / "training.pth", dict(model.state_dict()))


def test_two_candidates_are_none(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "state_dict": {"a": torch.ones(1)}}, tmp_path / "two.pth")
    assert refusal(tmp_path / "two.pth").code == "model_not_rwkv"


def test_names_what_is_no_tensor(tmp_path: Path) -> None:
    torch.save({"emb.weight": torch.ones(1), "_strategy": "cpu fp32", "_version": 4}, tmp_path / "model.pth")
    assert open_checkpoint(tmp_path / "model.pth").other_keys == ("_strategy", "_version")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_payload_does_not_run(tmp_path: Path, form: str) -> None:
    marker, path = tmp_path / "was-here", tmp_path / "model.pth"
    content = {"emb.weight": torch.ones(2), "x": Payload(f"touch {marker}")}
    if form == "pickle":
        path.write_bytes(pickle.dumps(Payload(f"touch {marker}")))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    error = refusal(path)
    assert error.code == "model_unsafe"
    assert error.problem.args["name"] == "posix.system"
    assert not marker.exists()
    # The payload is a real one.
    pickle.loads(pickle.dumps(Payload(f"touch {marker}")))
    assert marker.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x02ctorch\nSize\n}X\x04\x00\x00\x00kindX\x01\x00\x00\x00xsb.",  # BUILD: change a stand-in
        b"\x80\x02ctorch\nFloatStorage\n(NNtb.",
        b"\x80\x02ctorch\nFloatStorage\n(N}X\x05\x00\x00\x00dtypeK\x01stb.",
        b"\x80\x02ctorch\nSize\nK\x05\x85R.",
        b"\x80\x02ccollections\nOrderedDict\nK\x05\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02X\x04\x00\x00\x00abcdQ.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02(((((((((.",
    ],
)
def test_a_hostile_pickle_is_refused_and_changes_nothing(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
    assert refusal(path).code in ("model_unreadable", "model_truncated", "model_not_rwkv")
    assert pickle_header._GLOBALS["torch", "Size"].kind == "size"
    assert pickle_header._GLOBALS["torch", "FloatStorage"].dtype.name == "fp32"


@pytest.mark.parametrize("new_format", [True, False])
def test_truncated_anywhere_says_so(tmp_path: Path, new_format: bool) -> None:
    whole = tmp_path / "whole.pth"
    tensors = {"emb.weight": torch.arange(500.0), "head.weight": torch.ones(40, dtype=torch.bfloat16)}
    torch.save(tensors, whole, _use_new_zipfile_serialization=new_format)
    content = whole.read_bytes()
    path = tmp_path / "cut.pth"
    for length in [*range(1, 120), *range(120, len(content), 61), len(content) - 1]:
        path.write_bytes(content[:length])
        assert refusal(path).code == "model_truncated", length


def test_truncated_safetensors_says_so(tmp_path: Path) -> None:
    save_file({"emb.weight": torch.arange(500.0)}, tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in [*range(9, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        assert refusal(path).code == "model_truncated", length


def test_a_file_that_shrinks_after_opening_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(100_000)}, path)
    file = open_checkpoint(path)
    os.truncate(path, 1000)
    with pytest.raises(InputError) as caught:
        file.read("a")
    assert caught.value.code == "model_truncated"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.pth", b"", "model_unreadable"),
        ("text.pth", "User: 你好\n\nAssistant: hello\n".encode() * 40, "model_not_rwkv"),
        ("page.pth", b"<!DOCTYPE html><html>404 Not Found</html>", "model_not_rwkv"),
        ("number.pth", pickle.dumps({"a": 1}), "model_not_rwkv"),
        ("header.safetensors", struct.pack("<Q", 9) + b'{"a": 12}', "model_unreadable"),
        ("broken.safetensors", struct.pack("<Q", 9) + b"{nonsense", "model_unreadable"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).code == code


def test_folders_missing_files_archives_and_tars_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.pth").code == "model_not_found"
    (tmp_path / "folder.pth").mkdir()
    assert refusal(tmp_path / "folder.pth").code == "model_unreadable"
    with zipfile.ZipFile(tmp_path / "archive.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refusal(tmp_path / "archive.pth").code == "model_not_rwkv"
    with tarfile.open(tmp_path / "old.pth", "w") as tar:
        tar.add(tmp_path / "archive.pth", "storages")
    assert refusal(tmp_path / "old.pth").code == "model_legacy"
    with open("/proc/self/mem", "rb"):  # exists, opens, and can't be read from its start
        assert refusal(Path("/proc/self/mem")).code == "model_unreadable"


def test_big_endian_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "little.pth")
    with (
        zipfile.ZipFile(tmp_path / "little.pth") as little,
        zipfile.ZipFile(tmp_path / "big.pth", "w") as big,
    ):
        for name in little.namelist():
            big.writestr(name, b"big" if name.endswith("byteorder") else little.read(name))
    assert refusal(tmp_path / "big.pth").problem.args["reason"] == "big-endian"


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(2, 3)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:-1] if name.endswith("data/0") else content)
    assert "beyond its storage" in refusal(path).problem.args["reason"]


def test_odd_paths(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s a "folder" $(touch x) 模型'
    folder.mkdir()
    torch.save(OrderedDict(a=torch.ones(3)), folder / "名前 #1.pth")
    assert_reads(folder / "名前 #1.pth", {"a": torch.ones(3)})


def test_opening_a_large_file_takes_no_time(tmp_path: Path, checkpoint_tensors: Any) -> None:
    path = tmp_path / "model.pth"
    header = {f"blocks.{i}.x": torch.zeros(1).expand(1, 1) for i in range(2000)}
    torch.save({**header, "big": torch.zeros(30_000_000)}, path)
    started_s = time.perf_counter()
    assert len(open_checkpoint(path).infos) == 2001
    assert time.perf_counter() - started_s < 1.0


def test_sha256_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(3_000_000)}, path)
    calls: list[tuple[int, int]] = []
    first = open_checkpoint(path).sha256(lambda done, total: calls.append((done, total)))
    size = path.stat().st_size
    assert calls[-1] == (size, size)
    assert len(calls) > 2
    calls.clear()
    assert open_checkpoint(path).sha256(lambda done, total: calls.append((done, total))) == first
    assert calls == []
    torch.save({"a": torch.ones(3_000_000)}, path)
    assert path.stat().st_size == size
    assert open_checkpoint(path).sha256() != first
