from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainer.adapters.files import check_fits, open_adapter, read_adapter
from trainer.contract.adapter_meta import META_KEY
from trainer.contract.errors import InputError
from trainer.models.checkpoint import open_checkpoint

A, B = "blocks.0.att.key.lora_A", "blocks.0.att.key.lora_B"


@pytest.fixture
def base(tmp_path: Path, make_checkpoint: Any) -> Path:
    make_checkpoint(tmp_path / "base.pth")
    return tmp_path / "base.pth"


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        open_adapter(path)
    return caught.value


def test_what_is_written_is_read_in_fp32(tmp_path: Path, base: Path, make_adapter: Any) -> None:
    tensors = make_adapter(tmp_path / "a.pth", base, r=3, alpha=6.0)
    adapter = read_adapter(tmp_path / "a.pth")
    assert open_adapter(tmp_path / "a.pth").writer == "ours"
    assert adapter.meta is not None
    assert (adapter.meta.r, adapter.meta.alpha) == (3, 6.0)
    assert set(adapter.tensors) == set(tensors)
    for name, tensor in tensors.items():
        assert adapter.tensors[name].dtype == torch.float32
        assert torch.equal(adapter.tensors[name], tensor)
    sidecar = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert sidecar == adapter.meta.model_dump(mode="json")


def test_plain_torch_reads_it_and_other_mergers_drop_the_metadata(
    tmp_path: Path, base: Path, make_adapter: Any
) -> None:
    tensors = make_adapter(tmp_path / "a.pth", base)
    loaded = torch.load(tmp_path / "a.pth", weights_only=True)
    assert {name for name in loaded if "lora" not in name} == {n for n in tensors if "lora" not in n}
    assert loaded[META_KEY].dtype == torch.uint8
    assert json.loads(bytes(loaded[META_KEY].tolist()))["alpha"] == 8.0


@pytest.mark.parametrize("prefix", ["", "model.", "_forward_module."])
def test_reads_other_trainers_files(tmp_path: Path, base: Path, make_adapter: Any, prefix: str) -> None:
    tensors = make_adapter(tmp_path / "slim.pth", base, r=5, with_meta=False)
    torch.save({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "slim.pth")
    opened = open_adapter(tmp_path / "slim.pth")
    assert (opened.writer, opened.meta, opened.rank) == ("slim", None, 5)
    adapter = read_adapter(tmp_path / "slim.pth")
    assert all(torch.equal(adapter.tensors[name], tensor) for name, tensor in tensors.items())
    check_fits(adapter, open_checkpoint(base).infos, base)


def test_reads_the_names_of_hf_peft_in_safetensors(tmp_path: Path) -> None:
    stem = "base_model.model.blocks.0.att.key"
    save_file({f"{stem}.lora_A.weight": torch.ones(2, 64), f"{stem}.lora_B.weight": torch.ones(64, 2)},
              tmp_path / "adapter_model.safetensors")  # fmt: skip
    assert set(read_adapter(tmp_path / "adapter_model.safetensors").tensors) == {A, B}


def test_what_is_no_adapter_is_refused(tmp_path: Path, base: Path) -> None:
    assert refusal(base).code == "adapter_not_adapter"
    (tmp_path / "text.pth").write_text("hello there")
    assert refusal(tmp_path / "text.pth").code == "adapter_not_adapter"
    (tmp_path / "empty.pth").touch()
    assert refusal(tmp_path / "empty.pth").code == "adapter_unreadable"
    assert refusal(tmp_path / "none.pth").code == "model_not_found"


@pytest.mark.parametrize(
    "tensors",
    [
        {A: torch.ones(2, 64)},
        {A: torch.ones(2, 64), B: torch.ones(64, 3)},
        {A: torch.ones(64), B: torch.ones(64)},
        {A: torch.ones(0, 64), B: torch.ones(64, 0)},
        {A: torch.ones(2, 64), B: torch.ones(64, 2), "blocks.0.att.key.lora_scale": torch.ones(1)},
        {A: torch.ones(2, 64), B: torch.ones(64, 2), "optimizer.step": torch.ones(1)},
        {A: torch.ones(2, 64), B: torch.ones(64, 2), META_KEY: torch.zeros(3, dtype=torch.uint8)},
    ],
)
def test_factors_that_make_no_update_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, tmp_path / "a.pth")
    assert refusal(tmp_path / "a.pth").code == "adapter_unreadable"


def test_another_base_is_refused_by_the_first_three_tensors(
    tmp_path: Path, base: Path, make_checkpoint: Any, make_adapter: Any
) -> None:
    make_adapter(tmp_path / "a.pth", base)
    make_checkpoint(tmp_path / "wide.pth", n_embd=128)
    for adapter in (read_adapter(tmp_path / "a.pth"), open_adapter(tmp_path / "a.pth")):
        with pytest.raises(InputError) as caught:
            check_fits(adapter, open_checkpoint(tmp_path / "wide.pth").infos, tmp_path / "wide.pth")
        args = caught.value.problem.args
        assert caught.value.code == "adapter_mismatch"
        assert args["base"] == str(tmp_path / "wide.pth")
        assert args["path"] == str(tmp_path / "a.pth")
        assert args["tensors"].startswith("blocks.0.ln1.weight, blocks.0.att.receptance.lora_A, ")
        assert args["tensors"].endswith("… (26)")


@pytest.mark.parametrize("name", ["blocks.9.ln1.weight", "blocks.0.att.time_state", "blocks.0.att.x_q"])
def test_a_full_tensor_that_the_base_lacks_is_named(tmp_path: Path, base: Path, name: str) -> None:
    torch.save({A: torch.ones(2, 64), B: torch.ones(64, 2), name: torch.ones(64)}, tmp_path / "a.pth")
    with pytest.raises(InputError) as caught:
        check_fits(read_adapter(tmp_path / "a.pth"), open_checkpoint(base).infos, base)
    assert caught.value.problem.args["tensors"] == name


def test_a_vector_without_leading_ones_fits(tmp_path: Path, base: Path) -> None:
    torch.save({A: torch.ones(2, 64), B: torch.ones(64, 2), "blocks.0.att.x_r": torch.ones(64)},
               tmp_path / "a.pth")  # fmt: skip
    check_fits(read_adapter(tmp_path / "a.pth"), open_checkpoint(base).infos, base)
