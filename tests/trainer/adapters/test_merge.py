from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainer.adapters import merge as merging
from trainer.adapters import outputs, updates
from trainer.adapters.merge import MergeStoppedError, merge
from trainer.contract.errors import AppError, InputError, Problem

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Half a unit in the last place, relative to the value.
ROUNDOFF = {"bf16": 2.0**-8, "fp16": 2.0**-11, "fp32": 2.0**-24}


def reference(
    base: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor], scale: float
) -> dict[str, np.ndarray]:
    """The merged weights in float64."""
    out = {}
    for name, weight in base.items():
        value = weight.double().numpy()
        module = name.removesuffix(".weight")
        if f"{module}.lora_A" in adapter:
            B, A = adapter[f"{module}.lora_B"], adapter[f"{module}.lora_A"]
            value = value + scale * (B.double().numpy() @ A.double().numpy())
        elif name in adapter:
            value = adapter[name].double().numpy().reshape(value.shape)
        out[name] = value
    return out


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def pair(tmp_path: Path, make_checkpoint: Any, make_adapter: Any) -> tuple[Path, Path]:
    make_checkpoint(tmp_path / "base.pth")
    make_adapter(tmp_path / "adapter.pth", tmp_path / "base.pth")
    return tmp_path / "base.pth", tmp_path / "adapter.pth"


@pytest.mark.parametrize("target", [None, "bf16", "fp16", "fp32"])
@pytest.mark.parametrize("source", ["bf16", "fp16", "fp32"])
def test_equals_the_float64_merge_rounded_once(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any, source: str, target: str | None
) -> None:
    out = tmp_path / "out.pth"
    base = make_checkpoint(tmp_path / "base.pth", dtype=source)
    adapter = make_adapter(tmp_path / "a.pth", tmp_path / "base.pth", r=4, alpha=6.0)
    report = merge(tmp_path / "base.pth", tmp_path / "a.pth", out, dtype=target, verify=False)
    merged = torch.load(tmp_path / "out.pth", weights_only=True)
    dtype = target or source
    assert list(merged) == list(base)
    exact, different = reference(base, adapter, 1.5), 0
    for name, wanted in exact.items():
        found = merged[name]
        assert found.dtype == TYPES[dtype]
        rounded = torch.from_numpy(wanted).to(TYPES[dtype])
        error = np.abs(found.double().numpy() - wanted)
        # 1e-6: the fp32 arithmetic before the rounding.
        assert (error <= ROUNDOFF[dtype] * np.abs(wanted) + 1e-6).all(), name
        if dtype != "fp32":  # near ties may go the other way
            different += int((found != rounded).sum())
    total = sum(value.size for value in exact.values())
    assert different <= total * 1e-3
    assert report.dtype == dtype
    assert report.changed == len({n.removesuffix(".lora_A").removesuffix(".lora_B") for n in adapter})
    assert report.lora_matrices == 12


def test_untouched_tensors_keep_every_bit(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    merge(*pair, tmp_path / "out.pth", verify=False)
    base, merged = (torch.load(path, weights_only=True) for path in (pair[0], tmp_path / "out.pth"))
    adapter = torch.load(pair[1], weights_only=True)
    for name in base:
        if name not in adapter and f"{name.removesuffix('.weight')}.lora_A" not in adapter:
            assert torch.equal(base[name].view(torch.uint8), merged[name].view(torch.uint8)), name


def test_the_share_lost_to_rounding_is_the_measured_one(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any
) -> None:
    base = make_checkpoint(tmp_path / "base.pth")
    adapter = make_adapter(tmp_path / "a.pth", tmp_path / "base.pth", size=1e-3)
    report = merge(tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / "out.pth", verify=False)
    merged = torch.load(tmp_path / "out.pth", weights_only=True)
    lost = update = largest = 0.0
    for name, wanted in reference(base, adapter, 2.0).items():
        before, after = base[name].double().numpy(), merged[name].double().numpy()
        if not np.array_equal(wanted, before):
            lost += np.square(after - wanted).sum()
            update += np.square(wanted - before).sum()
            largest = max(largest, np.abs(after - before).max())
    assert 0.01 < report.lost_share < 0.5
    assert report.lost_share == pytest.approx(math.sqrt(lost / update), rel=1e-3)
    assert report.max_change == pytest.approx(largest, rel=1e-6)


def test_key_order_and_layer0_v_stay_as_the_base_has_them(
    tmp_path: Path, checkpoint_tensors: Any, make_adapter: Any
) -> None:
    tensors = checkpoint_tensors(layer0_v=False)
    tensors["blocks.1.att.w0"] = tensors["blocks.1.att.w0"].float()
    shuffled = dict(sorted(tensors.items(), key=lambda item: item[0][::-1]))
    torch.save(shuffled, tmp_path / "base.pth")
    make_adapter(tmp_path / "a.pth", tmp_path / "base.pth")
    merge(tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / "out.pth", verify=False)
    merged = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(merged) == list(shuffled)
    assert {name: value.dtype for name, value in merged.items()} == {
        name: value.dtype for name, value in shuffled.items()
    }
    assert all(not isinstance(value, dict) and value.dim() > 0 for value in merged.values())


def test_views_and_transposed_matrices_are_merged_too(
    tmp_path: Path, checkpoint_tensors: Any, make_adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "BLOCK_ELEMENTS", 1000)  # many blocks, the last one short
    monkeypatch.setattr(outputs, "BLOCK_ELEMENTS", 1000)
    base = checkpoint_tensors(dtype="fp32")
    strided = {
        name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in base.items()
    }
    torch.save(strided, tmp_path / "base.pth")
    adapter = make_adapter(tmp_path / "a.pth", tmp_path / "base.pth")
    merge(tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / "out.pth", verify=False)
    merged = torch.load(tmp_path / "out.pth", weights_only=True)
    for name, wanted in reference(base, adapter, 2.0).items():
        assert np.abs(merged[name].double().numpy() - wanted).max() < 1e-6, name


@pytest.mark.parametrize("generation", ["4", "5.0", "5.1", "5.2", "6"])
def test_other_generations_merge_too(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any, generation: str
) -> None:
    base = make_checkpoint(tmp_path / "base.pth", generation, dtype="fp32")
    adapter = make_adapter(tmp_path / "a.pth", tmp_path / "base.pth", generation=generation)
    report = merge(tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / "out.pth")
    merged = torch.load(tmp_path / "out.pth", weights_only=True)
    for name, wanted in reference(base, adapter, 2.0).items():
        assert np.abs(merged[name].double().numpy() - wanted).max() < 1e-6, name
    assert report.warnings == ()
    assert report.logits is not None
    assert report.logits.package < 1e-4
    assert report.logits.base_and_adapter < 1e-4


def test_a_safetensors_base_becomes_a_pth(tmp_path: Path, checkpoint_tensors: Any, make_adapter: Any) -> None:
    base = checkpoint_tensors()
    torch.save(base, tmp_path / "base.pth")
    adapter = make_adapter(tmp_path / "a.pth", tmp_path / "base.pth")
    save_file(base, tmp_path / "base.safetensors")
    report = merge(tmp_path / "base.safetensors", tmp_path / "a.pth", tmp_path / "out.pth", verify=False)
    merged = torch.load(tmp_path / "out.pth", weights_only=True, mmap=True)
    name = "blocks.1.ffn.key.weight"
    assert np.abs(merged[name].double().numpy() - reference(base, adapter, 2.0)[name]).max() < 0.02
    # Same weights, another file: the adapter says that it was trained on the .pth.
    assert [problem.code for problem in report.warnings] == ["adapter_base_differs"]


def test_the_recorded_alpha_wins_and_a_missing_one_is_asked_for(
    tmp_path: Path, pair: tuple[Path, Path], make_adapter: Any
) -> None:
    base, adapter = pair
    told: list[Problem] = []
    report = merge(base, adapter, tmp_path / "1.pth", alpha=3.0, verify=False, on_warning=told.append)
    assert report.alpha == 8.0
    assert [(p.code, dict(p.args)) for p in told] == [
        ("adapter_alpha_differs", {"given": 3.0, "recorded": 8.0})
    ]
    assert merge(base, adapter, tmp_path / "2.pth", alpha=8.0, verify=False).warnings == ()
    slim = make_adapter(tmp_path / "slim.pth", base, r=4, with_meta=False)
    with pytest.raises(InputError) as caught:
        merge(base, tmp_path / "slim.pth", tmp_path / "3.pth")
    assert (caught.value.code, caught.value.problem.args["r"]) == ("adapter_alpha_unknown", 4)
    assert not (tmp_path / "3.pth").exists()
    assert merge(base, tmp_path / "slim.pth", tmp_path / "3.pth", alpha=2.0, verify=False).alpha == 2.0
    merged, weights = (torch.load(path, weights_only=True) for path in (tmp_path / "3.pth", base))
    wanted = reference(weights, slim, 0.5)["blocks.0.att.key.weight"]
    assert np.abs(merged["blocks.0.att.key.weight"].double().numpy() - wanted).max() < 2e-3


def test_another_base_of_the_same_sizes_warns_and_another_size_stops(
    tmp_path: Path, pair: tuple[Path, Path], make_checkpoint: Any
) -> None:
    make_checkpoint(tmp_path / "twin.pth", seed=9)
    assert (tmp_path / "twin.pth").stat().st_size == pair[0].stat().st_size  # told by its hash only
    report = merge(tmp_path / "twin.pth", pair[1], tmp_path / "out.pth", verify=False)
    assert [(p.code, dict(p.args)) for p in report.warnings] == [
        ("adapter_base_differs", {"adapter_base": "base.pth", "base": "twin.pth"})
    ]
    make_checkpoint(tmp_path / "wide.pth", n_embd=128)
    with pytest.raises(InputError) as caught:
        merge(tmp_path / "wide.pth", pair[1], tmp_path / "no.pth")
    assert caught.value.code == "adapter_mismatch"
    make_checkpoint(tmp_path / "six.pth", "6")
    with pytest.raises(InputError) as caught:
        merge(tmp_path / "six.pth", pair[1], tmp_path / "no.pth")
    assert caught.value.code == "adapter_mismatch"
    assert not (tmp_path / "no.pth").exists()


def test_nothing_is_overwritten(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    before = pair[0].read_bytes()
    for output in pair:
        with pytest.raises(InputError) as caught:
            merge(*pair, output)
        assert caught.value.code == "merge_output_exists"
    assert pair[0].read_bytes() == before
    # Not even a file that appears while the merge runs.
    output = tmp_path / "out.pth"
    with pytest.raises(InputError) as caught:
        merge(*pair, output, verify=False, on_progress=lambda *_: output.write_text("mine"))
    assert caught.value.code == "merge_output_exists"
    assert output.read_text() == "mine"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("phase", ["merging", "verifying"])
def test_a_stop_leaves_nothing_behind(tmp_path: Path, pair: tuple[Path, Path], phase: str) -> None:
    seen: list[str] = []
    with pytest.raises(MergeStoppedError):
        merge(*pair, tmp_path / "out.pth", on_progress=lambda name, *_: seen.append(name),
              should_stop=lambda: phase in seen)  # fmt: skip
    assert seen[-1] == phase
    assert not (tmp_path / "out.pth").exists()
    assert leftovers(tmp_path) == []


def test_damage_on_the_way_to_the_disk_is_found(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = merging.check_written

    def damage_and_check(output: Any, part: Path, *rest: Any) -> None:
        with open(part, "r+b") as file:
            file.seek(part.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        check(output, part, *rest)

    monkeypatch.setattr(merging, "check_written", damage_and_check)
    with pytest.raises(AppError) as caught:
        merge(*pair, tmp_path / "out.pth", verify=False)
    assert caught.value.code == "merge_verify_failed"
    assert caught.value.problem.args["tensor"] in torch.load(pair[0], weights_only=True)
    assert not (tmp_path / "out.pth").exists()
    assert leftovers(tmp_path) == []


def test_values_that_are_no_numbers_are_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    content = torch.load(pair[1], weights_only=True)
    content["blocks.0.att.key.lora_A"][0, 0] = float("nan")
    torch.save(content, tmp_path / "nan.pth")
    with pytest.raises(InputError) as caught:
        merge(pair[0], tmp_path / "nan.pth", tmp_path / "out.pth")
    assert caught.value.code == "adapter_unreadable"
    assert "blocks.0.att.key.lora_A" in caught.value.problem.args["reason"]
    content["blocks.0.att.key.lora_A"][0, 0] = 1e6
    torch.save(content, tmp_path / "large.pth")
    with pytest.raises(AppError) as caught_overflow:
        merge(pair[0], tmp_path / "large.pth", tmp_path / "out.pth", dtype="fp16")
    assert "blocks.0.att.key.weight" in caught_overflow.value.problem.args["tensor"]
    assert leftovers(tmp_path) == []


def sparse_model(path: Path, tensors: dict[str, torch.Tensor], vocab: int) -> None:
    """A valid .safetensors whose huge vocabulary is a hole in the file."""
    entries, offset = {}, 0
    for name, tensor in tensors.items():
        shape = [vocab, tensor.shape[1]] if name in ("emb.weight", "head.weight") else list(tensor.shape)
        nbytes = 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + offset)


def test_a_disk_without_room_is_found_before_the_work(
    tmp_path: Path, checkpoint_tensors: Any, pair: tuple[Path, Path]
) -> None:
    vocab = shutil.disk_usage(tmp_path).free // (2 * 2 * 64) + 10**6
    sparse_model(tmp_path / "huge.safetensors", checkpoint_tensors(), vocab)
    seen: list[str] = []
    with pytest.raises(AppError) as caught:
        merge(tmp_path / "huge.safetensors", pair[1], tmp_path / "out" / "out.pth",
              on_progress=lambda name, *_: seen.append(name))  # fmt: skip
    assert caught.value.code == "disk_full"
    assert seen == []
    assert list((tmp_path / "out").iterdir()) == []


IN_CHILD = """
import json, resource, sys
from trainer.adapters.merge import merge
from trainer.contract.errors import AppError
base, adapter, output, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
def high_water_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
before = high_water_bytes()
try:
    merge(base, adapter, output, verify=False)
    print(json.dumps({"peak": high_water_bytes() - before}))
except AppError as error:
    print(json.dumps({"code": error.code}))
"""


def in_child(base: Path, adapter: Path, output: Path, limit_bytes: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-c", IN_CHILD, str(base), str(adapter), str(output), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for limit_bytes in (5_000, pair[0].stat().st_size - 2_000):
        assert in_child(*pair, out / "out.pth", limit_bytes) == {"code": "not_writable"}
        assert list(out.iterdir()) == []


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AppError) as caught:
        merge(*pair, tmp_path / "file" / "out.pth")
    assert caught.value.code == "not_writable"
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_large_file_takes_a_few_tensors_of_memory(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any
) -> None:
    make_checkpoint(tmp_path / "base.pth", n_layer=7, n_embd=1024, vocab=8000, head_size=64)
    make_adapter(tmp_path / "a.pth", tmp_path / "base.pth", r=8)
    assert tmp_path.joinpath("base.pth").stat().st_size > 200e6
    peak = in_child(tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / "out.pth")["peak"]
    assert peak < 150e6
    with zipfile.ZipFile(tmp_path / "out.pth") as archive:
        assert archive.testzip() is None


def test_odd_paths(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    folder = tmp_path / 'it\'s a "folder" $(touch x) 模型'
    folder.mkdir()
    base, adapter = (shutil.copy(path, folder / f"$({path.stem}) 名.pth") for path in pair)
    report = merge(base, adapter, folder / "new & 新" / "out '1'.pth")
    assert report.output == folder / "new & 新" / "out '1'.pth"
    assert report.logits is not None


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_the_package_and_base_plus_adapter_say_the_same(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any, dtype: str
) -> None:
    make_checkpoint(tmp_path / "base.pth", dtype=dtype, layer0_v=False)
    make_adapter(tmp_path / "a.pth", tmp_path / "base.pth")
    report = merge(tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / "out.pth")
    assert report.logits is not None
    assert report.logits.package < 1e-5
    assert report.logits.base_and_adapter < (1e-5 if dtype == "fp32" else 2e-2)
    assert report.warnings == ()


def test_a_merge_that_answers_otherwise_is_thrown_away(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.adapters import logits

    monkeypatch.setattr(logits, "PACKAGE_TOLERANCE", 0.0)
    with pytest.raises(AppError) as caught:
        merge(*pair, tmp_path / "out.pth")
    assert caught.value.code == "merge_verify_failed"
    assert not (tmp_path / "out.pth").exists()
    assert leftovers(tmp_path) == []


def test_without_memory_the_answers_are_not_compared(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.adapters import logits

    monkeypatch.setattr(logits, "_MEMORY_FACTOR", 10**9)
    report = merge(*pair, tmp_path / "out.pth")
    assert [problem.code for problem in report.warnings] == ["merge_verify_skipped"]
    assert report.logits is None
    assert (tmp_path / "out.pth").exists()
