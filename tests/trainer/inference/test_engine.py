from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.adapters.attach import attach_adapter
from trainer.adapters.files import read_adapter
from trainer.contract.errors import AppError, InputError
from trainer.data.tokenizers import Tokenizer
from trainer.inference.engine import Engine, NativeEngine, PackageEngine, choose_device, open_engine
from trainer.models.loading import load_model

OLDER = """
import sys
import numpy as np
from pathlib import Path
from trainer.inference.engine import open_engine

for path in sys.argv[1:]:
    engine = open_engine(Path(path), device="cpu")
    tokens = [5, 17, 99, 3, 250]
    at_once, _ = engine.forward(tokens, None)
    _, state = engine.forward(tokens[:3], None)
    first, _ = engine.forward(tokens[3:], state)
    one, after = engine.forward(tokens[3:4], state)
    stepwise, _ = engine.forward(tokens[4:], after)
    again, _ = engine.forward(tokens[3:], state)
    assert engine.vocab_size == at_once.shape[0] == 300, engine.vocab_size
    assert np.abs(at_once - stepwise).max() < 1e-4
    assert np.array_equal(first, again), "the state was changed"
    assert engine.state_bytes(state) > 0
    print(engine.generation)
"""


def test_older_generations_run_in_the_package(tmp_path: Path, make_checkpoint: Callable[..., Any]) -> None:
    paths = []
    for generation in ("4", "5.0", "5.1", "5.2", "6"):
        paths.append(str(tmp_path / f"v{generation}.pth"))
        make_checkpoint(Path(paths[-1]), generation)
    done = subprocess.run([sys.executable, "-c", OLDER, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "4",
        "5.0",
        "5.1",
        "5.2",
        "6",
    ]  # and nothing of the package's own


def test_native_and_package_agree(engine: Engine, model_path: Path, tokenizer: Tokenizer) -> None:
    native = NativeEngine(load_model(model_path, dtype=torch.float32, device="cpu"))
    assert isinstance(engine, PackageEngine)
    assert native.vocab_size == engine.vocab_size
    tokens = tokenizer.encode("The quick brown fox; 敏捷的棕色狐狸跳过了懒狗。 And once more?")
    assert len(tokens) > 17
    theirs, their_state = engine.forward(tokens, None)
    ours, our_state = native.forward(tokens, None)
    assert np.abs(theirs - ours).max() < 1e-4
    for token in (11, 24281, 59):
        theirs, their_state = engine.forward([token], their_state)
        ours, our_state = native.forward([token], our_state)
        assert np.abs(theirs - ours).max() < 1e-4
    assert native.state_bytes(our_state) == engine.state_bytes(their_state)


def test_states_stay_valid_and_hold_no_activations(engine: Engine, model_path: Path) -> None:
    for each in (engine, NativeEngine(load_model(model_path))):
        _, state = each.forward(list(range(1, 40)), None)
        first, _ = each.forward([7, 8], state)
        again, _ = each.forward([7, 8], state)
        assert np.array_equal(first, again)
        tensors = state if isinstance(state, list) and isinstance(state[0], torch.Tensor) else [
            t for layer in state for t in (layer.att_x, layer.wkv, layer.ffn_x)
        ]  # fmt: skip
        assert all(t.untyped_storage().nbytes() == t.nbytes for t in tensors)


def test_a_model_in_training_answers_without_dropout_and_goes_on_training(model_path: Path) -> None:
    from trainer.adapters.attach import attach

    model = load_model(model_path)
    attach(model, "lora", r=2, alpha=4, dropout=0.5, parts=("att",))
    torch.nn.init.normal_(model.get_parameter("blocks.0.att.key.lora_B"), std=0.3)
    native = NativeEngine(model.train())
    first, _ = native.forward([5, 6, 7], None)
    second, _ = native.forward([5, 6, 7], None)
    assert np.array_equal(first, second)
    assert model.training
    loss = model.logits(model(torch.tensor([[5, 6, 7]]))[0]).sum()
    loss.backward()
    assert model.get_parameter("blocks.0.att.key.lora_A").grad is not None


def test_safetensors_run_natively(model_path: Path, engine: Engine, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = torch.load(model_path, weights_only=True)
    save_file(tensors, tmp_path / "m.safetensors")
    native = open_engine(tmp_path / "m.safetensors", device="cpu")
    assert isinstance(native, NativeEngine)
    assert np.abs(native.forward([1, 2], None)[0] - engine.forward([1, 2], None)[0]).max() < 1e-4


@pytest.mark.parametrize("generation", ["4", "5.0", "5.1", "5.2", "6"])
def test_an_adapter_on_an_older_generation_answers(
    tmp_path: Path, make_checkpoint: Callable[..., Any], make_adapter: Callable[..., Any], generation: str
) -> None:
    base = tmp_path / "base.pth"
    make_checkpoint(base, generation)
    make_adapter(tmp_path / "a.pth", base, generation=generation, full=("blocks.1.ln1.weight",))
    engine = open_engine(base, tmp_path / "a.pth", device="cpu")
    assert (engine.generation, engine.vocab_size) == (generation, 300)
    whole, _ = engine.forward([5, 17, 99, 3, 250], None)
    _, state = engine.forward([5, 17], None)
    rest, after = engine.forward([99, 3, 250], state)
    again, _ = engine.forward([99, 3, 250], state)
    assert np.abs(whole - rest).max() < 1e-4
    assert np.array_equal(rest, again)
    assert engine.state_bytes(after) == engine.state_bytes(state) > 0
    bare, _ = NativeEngine(load_model(base)).forward([5, 17, 99, 3, 250], None)
    assert np.abs(whole - bare).max() > 1e-2  # the adapter has its say


@pytest.mark.parametrize("generation", ["5.1", "6", "7"])
def test_a_tuned_state_is_used_at_once_in_a_chat(
    tmp_path: Path, make_checkpoint: Callable[..., Any], generation: str
) -> None:
    """Also one of RWKV-Runner or RWKV-PEFT, which is a file of states and nothing else."""
    base, layers = tmp_path / "base.pth", 2
    make_checkpoint(base, generation)
    states = {f"blocks.{i}.att.time_state": torch.randn(2, 32, 32).bfloat16() for i in range(layers)}
    torch.save(states, tmp_path / "state.pth")
    engine = open_engine(base, tmp_path / "state.pth", device="cpu")
    whole, end = engine.forward([5, 17, 99, 3, 250], None)
    _, state = engine.forward([5, 17], None)
    rest, after = engine.forward([99, 3, 250], state)
    assert np.abs(whole - rest).max() < 1e-4
    bare = NativeEngine(load_model(base))
    assert np.abs(whole - bare.forward([5, 17, 99, 3, 250], None)[0]).max() > 1e-2
    # What was read goes on from the state of the file, not from it anew.
    assert np.abs(engine.forward([7], after)[0] - bare.forward([7], end)[0]).max() < 1e-4


def test_an_adapter_and_a_state_are_mounted_together(
    tmp_path: Path, make_checkpoint: Callable[..., Any], make_adapter: Callable[..., Any]
) -> None:
    base, adapter, state = (tmp_path / name for name in ("base.pth", "a.pth", "s.pth"))
    make_checkpoint(base)
    make_adapter(adapter, base)
    torch.save({f"blocks.{i}.att.time_state": torch.randn(2, 32, 32) for i in range(2)}, state)
    tokens = [5, 17, 99, 3, 250]

    def logits(adapter: Path | None, state: Path | None) -> np.ndarray:
        return open_engine(base, adapter, state=state, device="cpu").forward(tokens, None)[0]

    both = logits(adapter, state)
    model = load_model(base)
    for path in (adapter, state):
        attach_adapter(model, read_adapter(path))
    assert np.array_equal(both, NativeEngine(model).forward(tokens, None)[0])
    assert np.abs(both - logits(adapter, None)).max() > 1e-2
    assert np.abs(both - logits(None, state)).max() > 1e-2
    with pytest.raises(InputError) as caught:
        logits(None, adapter)
    assert caught.value.code == "state_not_state"


def test_one_process_runs_one_kind_of_model(
    engine: Engine, tmp_path: Path, make_checkpoint: Callable[..., Any]
) -> None:
    make_checkpoint(tmp_path / "six.pth", "6")
    with pytest.raises(AppError) as caught:
        open_engine(tmp_path / "six.pth", device="cpu")
    assert caught.value.code == "internal"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_devices_without_cuda() -> None:
    assert choose_device() == ("cpu", "fp32")
    assert choose_device("cpu", "bf16") == ("cpu", "bf16")
    with pytest.raises(AppError) as caught:
        choose_device("cuda")
    assert caught.value.code == "device_unavailable"
