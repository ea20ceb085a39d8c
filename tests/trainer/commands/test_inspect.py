from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.cli import main


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["inspect", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_7_is_described_by_its_contents(
    tmp_path: Path, make_checkpoint: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = make_checkpoint(tmp_path / "m.pth", n_layer=3, n_embd=128, vocab=500, head_size=64)
    found = inspected(tmp_path / "m.pth", capsys)
    assert found["kind"] == "model"
    sizes = [found[name] for name in ("generation", "n_layer", "n_embd", "vocab_size", "head_size", "n_head")]
    assert sizes == ["7", 3, 128, 500, 64, 2]
    assert found["ranks"] == {"w": 8, "a": 12, "v": 16, "g": 20}
    assert (found["dtype"], found["dtypes"]) == ("bf16", ["bf16"])
    assert found["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert found["bytes"] == (tmp_path / "m.pth").stat().st_size


@pytest.mark.parametrize("generation", ["4", "5.0", "5.1", "5.2", "6"])
def test_older_generations_are_described(
    tmp_path: Path, make_checkpoint: Any, capsys: pytest.CaptureFixture[str], generation: str
) -> None:
    make_checkpoint(tmp_path / "m.pth", generation)
    found = inspected(tmp_path / "m.pth", capsys)
    assert (found["generation"], found["n_layer"], found["n_embd"]) == (generation, 2, 64)


def test_adapters_are_described(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path / "m.pth")
    make_adapter(tmp_path / "a.pth", tmp_path / "m.pth", r=4, alpha=6.0)
    found = inspected(tmp_path / "a.pth", capsys)
    assert found["kind"] == "adapter"
    assert (found["r"], found["alpha"], found["parts"], found["step"]) == (4, 6.0, ["att", "ffn"], 10)
    assert (found["base"], found["dtypes"], found["method"]) == ("m.pth", ["fp32"], "lora")
    make_adapter(tmp_path / "slim.pth", tmp_path / "m.pth", r=3, with_meta=False)
    slim = inspected(tmp_path / "slim.pth", capsys)
    assert (slim["writer"], slim["r"], slim["alpha"], slim["base"]) == ("slim", 3, None, None)


def test_other_tools_adapters_and_states_are_named(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path / "m.pth")
    make_adapter(tmp_path / "slim.pth", tmp_path / "m.pth", r=3, with_meta=False, full=())
    tensors = torch.load(tmp_path / "slim.pth", weights_only=True)
    folder = tmp_path / "peft"
    folder.mkdir()
    torch.save({f"base_model.model.{n}.weight": t for n, t in tensors.items()}, folder / "adapter_model.bin")
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 7}), encoding="utf-8")
    for path in (folder, config, folder / "adapter_model.bin"):
        found = inspected(path, capsys)
        assert (found["writer"], found["r"], found["alpha"]) == ("peft", 3, 7.0)
        assert found["recognised"]["code"] == "adapter_is_peft"
    torch.save({"blocks.0.att.time_state": torch.zeros(2, 32, 32)}, tmp_path / "state.pth")
    assert (inspected(tmp_path / "state.pth", capsys)["method"]) == "state"
    assert main(["inspect", str(tmp_path / "slim.pth")]) == 0
    assert capsys.readouterr().out.startswith("Recognised: a LoRA as RWKV-Runner, RWKV-LM-LoRA and RWKV-PEFT")


def test_people_get_lines(tmp_path: Path, make_checkpoint: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint(tmp_path / "m.pth")
    assert main(["inspect", str(tmp_path / "m.pth")]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["generation"] == "7"
    assert lines["parameters"].replace(",", "").isdigit()


def test_what_is_neither_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        {"emb.weight": torch.zeros(2, 2), "blocks.0.qkv.qq.weight": torch.zeros(2, 2)}, tmp_path / "dea.pth"
    )
    assert main(["inspect", str(tmp_path / "dea.pth"), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error[model_variant]: ")
    assert len(captured.err.splitlines()) == 1


def test_neither_torch_nor_the_tensors_are_loaded(tmp_path: Path, make_checkpoint: Any) -> None:
    make_checkpoint(tmp_path / "m.pth")
    code = (
        "import sys; from pathlib import Path; from trainer.commands.inspect import describe;"
        "print(describe(Path(sys.argv[1]))['generation'], 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m.pth")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["7", "False"]
