from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.data.tokenizers import load_tokenizer
from trainer.models.loading import load_model


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("$(touch x) 模型") / "tiny.pth"
    make_checkpoint(path, vocab=65536)
    return path


def run(*argv: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "trainer", "generate", *map(str, argv)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False)


def result(*argv: object) -> dict[str, Any]:
    done = run(*argv, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def greedy(model: Any, prompt: str, count: int) -> str:
    """By the whole sequence each time: no state, no stream."""
    tokenizer = load_tokenizer(None)
    tokens = tokenizer.encode(prompt)
    start = len(tokens)
    with torch.no_grad():
        for _ in range(count):
            hidden, _ = model(torch.tensor([tokens]))
            tokens.append(int(model.logits(hidden[0, -1]).argmax()))
    return tokenizer.decode(tokens[start:])


def test_stdout_is_the_completion_and_nothing_else(model_path: Path) -> None:
    prompt = "Once upon a time, 从前"
    done = run("--model", model_path, "--prompt", prompt, "--max-tokens", 8, "--temperature", 0)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == greedy(load_model(model_path), prompt, 8) + "\n"


def test_json_and_seeds(model_path: Path) -> None:
    flags = ("--model", model_path, "--prompt", "Hi", "--max-tokens", 6, "--top-p", 1)
    first = result(*flags, "--seed", 1)
    assert first["usage"] == {"prompt_tokens": 1, "completion_tokens": 6}
    assert (first["finish_reason"], first["model"]) == ("length", "tiny")
    assert result(*flags, "--seed", 1)["text"] == first["text"]
    assert result(*flags, "--seed", 2)["text"] != first["text"]


def test_chat_and_stop(model_path: Path) -> None:
    template = greedy(load_model(model_path), "User: Hi\n\nAssistant:", 6)
    flags = ("--model", model_path, "--max-tokens", 6, "--temperature", 0)
    assert result(*flags, "--chat", "--prompt", "Hi")["text"] == template.strip()
    stop = template.strip()[4:6]
    stopped = result(*flags, "--prompt", "User: Hi\n\nAssistant:", "--stop", stop)
    assert stopped["text"] == template[: template.index(stop)]
    assert stopped["finish_reason"] == "stop"


def test_an_adapter_changes_the_answer_as_its_weights_say(model_path: Path, tmp_path: Path) -> None:
    from trainer.adapters.files import write_adapter
    from trainer.contract.adapter_meta import AdapterMeta

    torch.manual_seed(0)
    tensors = {}
    for part in ("att.receptance", "ffn.key"):
        rows = 64 if part.startswith("att") else 256
        tensors[f"blocks.1.{part}.lora_A"] = torch.randn(4, 64)
        tensors[f"blocks.1.{part}.lora_B"] = torch.randn(rows, 4)
    meta = AdapterMeta(
        method="lora", r=4, alpha=8.0, parts=("att", "ffn"), generation="7", n_layer=2, n_embd=64,
        base_name="tiny.pth", base_bytes=1, base_sha256="", run_id="r", step=1, epoch=0,
        tokens=1, trainer="0",
    )  # fmt: skip
    adapter = tmp_path / "adapter.pth"
    write_adapter(adapter, tensors, meta)
    merged = load_model(model_path)
    for part in ("att.receptance", "ffn.key"):
        weight = merged.get_parameter(f"blocks.1.{part}.weight")
        weight.data += 2.0 * tensors[f"blocks.1.{part}.lora_B"] @ tensors[f"blocks.1.{part}.lora_A"]
    flags = ("--model", model_path, "--prompt", "Hello", "--max-tokens", 6, "--temperature", 0)
    tuned = result(*flags, "--adapter", adapter)
    assert tuned["text"] == greedy(merged, "Hello", 6)
    assert tuned["model"] == "tiny+adapter"
    assert tuned["text"] != result(*flags)["text"]


def test_a_prompt_beyond_a_small_vocabulary(tmp_path: Path, make_checkpoint: Callable[..., Any]) -> None:
    make_checkpoint(tmp_path / "small.pth", vocab=300)
    done = run("--model", tmp_path / "small.pth", "--prompt", "Hello")
    assert done.returncode == 2
    assert b"error[token_beyond_vocab]" in done.stderr


@pytest.mark.parametrize(
    "flags",
    [("--temperature", "-1"), ("--top-p", "nan"), ("--max-tokens", "0"), ("--top-k", "x"), ("--seed", "-1")],
)
def test_bad_numbers(flags: tuple[str, str]) -> None:
    done = run("--model", "m.pth", "--prompt", "x", *flags)
    assert done.returncode == 2
    assert flags[0].encode() in done.stderr
    assert done.stdout == b""
