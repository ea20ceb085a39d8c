from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainer.contract.errors import InputError
from trainer.models.loading import load_model


@pytest.mark.parametrize("stored", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_tensor_arrives_in_the_asked_type_and_frozen(
    make_checkpoint: Callable[..., Any], tmp_path: Path, stored: str, dtype: torch.dtype
) -> None:
    written = make_checkpoint(tmp_path / "m.pth", dtype=stored)
    model = load_model(tmp_path / "m.pth", dtype=dtype)
    loaded = dict(model.named_parameters())
    assert set(loaded) == set(written)
    assert all(torch.equal(loaded[name], tensor.to(dtype)) for name, tensor in written.items())
    assert {p.dtype for p in loaded.values()} == {model.compute_dtype} == {dtype}
    assert not any(p.requires_grad or p.is_meta for p in loaded.values())
    hidden, _ = model(torch.tensor([[1, 2, 3]]))
    assert hidden.dtype == dtype


@pytest.mark.parametrize("generation", ["5.0", "5.1"])
def test_one_value_per_head_may_be_kept_as_a_column(
    checkpoint_tensors: Callable[..., Any], tmp_path: Path, generation: str
) -> None:
    tensors = checkpoint_tensors(generation)
    columns = {
        name: tensor.view(-1, 1) if name.endswith(("time_decay", "time_first")) else tensor
        for name, tensor in tensors.items()
    }
    torch.save(columns, tmp_path / "columns.pth")
    loaded = load_model(tmp_path / "columns.pth").state_dict()
    assert {name for name in tensors if columns[name].shape != tensors[name].shape}
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in tensors.items())


def test_safetensors_and_progress(checkpoint_tensors: Callable[..., Any], tmp_path: Path) -> None:
    tensors = checkpoint_tensors(layer0_v=False)
    save_file(tensors, tmp_path / "m.safetensors")
    seen: list[tuple[int, int]] = []
    model = load_model(tmp_path / "m.safetensors", on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, len(tensors)) for i in range(1, len(tensors) + 1)]
    assert torch.equal(model.get_parameter("head.weight"), tensors["head.weight"].float())


def test_what_cannot_be_trained_is_refused_by_what_it_is(
    checkpoint_tensors: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "m.pth"
    tensors = checkpoint_tensors()
    torch.save(tensors | {"blocks.0.ffn.s_emb.weight": torch.zeros(300, 4)}, path)
    with pytest.raises(InputError) as error:
        load_model(path)
    assert error.value.code == "model_variant"
    assert "DeepEmbed" in error.value.problem.args["variant"]
    del tensors["blocks.1.att.k_a"]
    torch.save(tensors | {"blocks.1.att.k_b": torch.zeros(1)}, path)
    with pytest.raises(InputError) as error:
        load_model(path)
    assert error.value.code == "model_keys"
    assert "blocks.1.att.k_a" in error.value.problem.args["missing"]
    assert "blocks.1.att.k_b" in error.value.problem.args["unexpected"]


def test_the_file_can_be_deleted_and_the_model_goes_on(
    make_checkpoint: Callable[..., Any], tmp_path: Path
) -> None:
    """Nothing of the model is a view of the file, which a user may overwrite while it trains."""
    written = make_checkpoint(tmp_path / "m.pth", dtype="fp32")
    model = load_model(tmp_path / "m.pth")
    size = (tmp_path / "m.pth").stat().st_size
    (tmp_path / "m.pth").write_bytes(bytes(size))
    assert torch.equal(model.get_parameter("emb.weight"), written["emb.weight"])
