"""Small random checkpoints of every RWKV generation, written by torch like the published ones.

Values start from the initial values that the generations are trained from; what starts at zero or constant
gets noise, so that a wrong or forgotten path changes the logits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from trainer.adapters.files import write_adapter
from trainer.contract.adapter_meta import AdapterMeta

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RANKS_7 = {"w": 8, "a": 12, "v": 16, "g": 20}
RANKS_6 = {"mix": 8, "decay": 12}


@dataclass
class Maker:
    """Random tensors of one model; `key` names go straight into `out`, in file order."""

    n_layer: int
    n_embd: int
    vocab: int
    head_size: int
    dim_ffn: int
    ranks: Mapping[str, int]
    seed: int
    out: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.n_head = self.n_embd // self.head_size

    def noise(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * scale

    def matrix(self, key: str, rows: int, columns: int, gain: float = 1.0, fan_in: int | None = None) -> None:
        self.out[key] = self.noise(rows, columns, scale=gain / math.sqrt(fan_in or columns))

    def vector(self, key: str, value: torch.Tensor | float, *shape: int, scale: float = 0.1) -> None:
        start = torch.as_tensor(value, dtype=torch.float32)
        self.out[key] = (start + self.noise(*shape, scale=scale)).reshape(shape)

    def norm(self, key: str, weight: float = 1.0) -> None:
        self.vector(f"{key}.weight", weight, self.n_embd)
        self.vector(f"{key}.bias", 0.0, self.n_embd)

    def mix(self, key: str, power: float, shift: float = 0.0, *, invert: bool = False) -> None:
        ddd = torch.arange(self.n_embd) / self.n_embd
        value = ddd**power + shift
        self.vector(key, (1 - value if invert else value).reshape(1, 1, -1), 1, 1, self.n_embd)

    def outer(self, block: int) -> tuple[float, float]:
        """r01 and r1: how deep the block lies, from 0 to 1 and from 1 to 1/L."""
        return block / max(1, self.n_layer - 1), 1 - block / self.n_layer


def _decay(n: int, r01: float) -> torch.Tensor:
    return -6 + 5 * (torch.arange(n) / max(1, n - 1)) ** (0.7 + 1.3 * r01)


def _zigzag(n: int) -> torch.Tensor:
    return ((torch.arange(n) + 1) % 3 - 1).float()


def _projections(m: Maker, p: str, names: tuple[str, ...]) -> None:
    for name in names:
        m.matrix(f"{p}{name}.weight", m.n_embd, m.n_embd, 0.7)


def _att_4(m: Maker, p: str, block: int) -> None:
    r01, r1 = m.outer(block)
    m.vector(f"{p}time_decay", _decay(m.n_embd, r01) + 1, m.n_embd)
    m.vector(f"{p}time_first", math.log(0.3) + 0.5 * _zigzag(m.n_embd), m.n_embd)
    m.mix(f"{p}time_mix_k", r1)
    m.mix(f"{p}time_mix_v", r1, 0.3 * r01)
    m.mix(f"{p}time_mix_r", 0.5 * r1)
    _projections(m, p, ("key", "value", "receptance", "output"))


def _att_5(m: Maker, p: str, block: int, minor: int, u_key: str) -> None:
    r01, r1 = m.outer(block)
    h, n = m.n_head, m.head_size
    m.mix(f"{p}time_mix_k", r1)
    m.mix(f"{p}time_mix_v", r1, 0.3 * r01)
    m.mix(f"{p}time_mix_r", 0.5 * r1)
    if minor > 0:
        m.mix(f"{p}time_mix_g", 0.5 * r1)
    shape = (h, n) if minor == 2 else (h,)
    m.vector(f"{p}time_decay", _decay(math.prod(shape), r01).reshape(shape), *shape)
    m.vector(f"{p}{u_key}", -3.0 if u_key == "time_first" else 0.3, *shape)
    _projections(m, p, ("receptance", "key", "value", "output"))
    if minor > 0:
        _projections(m, p, ("gate",))
    m.norm(f"{p}ln_x", ((1 + block) / m.n_layer) ** 0.7)


def _att_6(m: Maker, p: str, block: int) -> None:
    r01, r1 = m.outer(block)
    c, mix, decay = m.n_embd, m.ranks["mix"], m.ranks["decay"]
    for name in ("x", "w", "k"):
        m.mix(f"{p}time_maa_{name}", r1, invert=True)
    m.mix(f"{p}time_maa_v", r1, 0.3 * r01, invert=True)
    for name in ("r", "g"):
        m.mix(f"{p}time_maa_{name}", 0.5 * r1, invert=True)
    m.matrix(f"{p}time_maa_w1", c, 5 * mix, 0.5, fan_in=c)
    m.out[f"{p}time_maa_w2"] = m.noise(5, mix, c, scale=0.1)
    m.vector(f"{p}time_decay", _decay(c, r01).reshape(1, 1, c), 1, 1, c)
    m.matrix(f"{p}time_decay_w1", c, decay, 0.5, fan_in=c)
    m.matrix(f"{p}time_decay_w2", decay, c, 0.5, fan_in=decay)
    bonus = r01 * (1 - torch.arange(c) / (c - 1)) + 0.1 * _zigzag(c)
    m.vector(f"{p}time_faaaa", bonus.reshape(m.n_head, m.head_size), m.n_head, m.head_size)
    _projections(m, p, ("receptance", "key", "value", "output", "gate"))
    m.norm(f"{p}ln_x", ((1 + block) / m.n_layer) ** 0.7)


def _att_7(m: Maker, p: str, block: int, layer0_v: bool) -> None:
    r01, r1 = m.outer(block)
    c, n = m.n_embd, torch.arange(m.n_embd)
    linear = n / (c - 1) - 0.5
    half = max(1.0, (m.head_size - 1) / 2)
    z = ((n % m.head_size) - (m.head_size - 1) / 2) / half
    zig = z * z.abs()
    for name, power in (("r", 0.2), ("w", 0.9), ("k", 0.7), ("v", 0.7), ("a", 0.9), ("g", 0.2)):
        m.mix(f"{p}x_{name}", power * r1, invert=True)
    low = {
        "w": -6 + 6 * (n / (c - 1)) ** (1 + r01**0.3) + 0.5 + 2.5 * zig,
        "a": -0.19 + 0.3 * zig + 0.4 * linear,
        "v": 0.73 - 0.4 * linear,
    }
    for name in ("w", "a", "v", "g"):
        if name == "v" and block == 0 and not layer0_v:
            continue
        rank = m.ranks[name]
        if name in low:
            m.vector(f"{p}{name}0", low[name].reshape(1, 1, c), 1, 1, c)
        m.matrix(f"{p}{name}1", c, rank, 0.7, fan_in=c)
        m.matrix(f"{p}{name}2", rank, c, 0.7, fan_in=rank)
    m.vector(f"{p}k_k", (0.71 - 0.1 * linear).reshape(1, 1, c), 1, 1, c)
    m.vector(f"{p}k_a", 1.02, 1, 1, c)
    m.vector(f"{p}r_k", -0.04, m.n_head, m.head_size)
    _projections(m, p, ("receptance", "key", "value", "output"))
    m.norm(f"{p}ln_x", ((1 + block) / m.n_layer) ** 0.7)


def _ffn(m: Maker, p: str, block: int, generation: str) -> None:
    _, r1 = m.outer(block)
    if generation == "7":
        m.mix(f"{p}x_k", r1**4, invert=True)
    elif generation == "6":
        m.mix(f"{p}time_maa_k", r1**3, invert=True)
        m.mix(f"{p}time_maa_r", r1**3, invert=True)
    else:
        m.mix(f"{p}time_mix_k", r1)
        m.mix(f"{p}time_mix_r", r1)
    m.matrix(f"{p}key.weight", m.dim_ffn, m.n_embd, 0.7)
    if generation != "7":
        _projections(m, p, ("receptance",))
    m.matrix(f"{p}value.weight", m.n_embd, m.dim_ffn, 0.7)


def checkpoint_tensors(
    generation: str = "7",
    n_layer: int = 2,
    n_embd: int = 64,
    vocab: int = 300,
    head_size: int = 32,
    ranks: Mapping[str, int] | None = None,
    dim_ffn: int | None = None,
    dtype: str = "bf16",
    seed: int = 0,
    *,
    layer0_v: bool = True,
    u_key: str | None = None,
) -> dict[str, torch.Tensor]:
    """The state dict of a random model.

    Args:
        generation: "4", "5.0", "5.1", "5.2", "6" or "7".
        ranks: of 7 by "w", "a", "v", "g"; of 6 by "mix", "decay".
        dim_ffn: 4 n_embd for 4, 5.0 and 7, else 3.5 n_embd rounded down to a multiple of 32.
        dtype: "bf16", "fp16" or "fp32".
        layer0_v: whether block 0 of a 7 has v0, v1, v2.
        u_key: "time_first" or "time_faaaa", the spelling of a 5's bonus.
    """
    wide = generation in ("4", "5.0", "7")
    dim_ffn = dim_ffn or (4 * n_embd if wide else int(3.5 * n_embd) // 32 * 32)
    ranks = {**(RANKS_7 if generation == "7" else RANKS_6), **(ranks or {})}
    m = Maker(n_layer, n_embd, vocab, head_size, dim_ffn, ranks, seed)
    m.out["emb.weight"] = m.noise(vocab, n_embd, scale=0.5)
    for block in range(n_layer):
        p = f"blocks.{block}."
        m.norm(f"{p}ln1")
        m.norm(f"{p}ln2")
        if block == 0:
            m.norm(f"{p}ln0")
        if generation == "4":
            _att_4(m, f"{p}att.", block)
        elif generation == "6":
            _att_6(m, f"{p}att.", block)
        elif generation == "7":
            _att_7(m, f"{p}att.", block, layer0_v)
        else:
            minor = int(generation[2])
            _att_5(m, f"{p}att.", block, minor, u_key or ("time_faaaa" if minor == 2 else "time_first"))
        _ffn(m, f"{p}ffn.", block, generation)
    m.norm("ln_out")
    m.matrix("head.weight", vocab, n_embd)
    return {key: tensor.to(DTYPES[dtype]).contiguous() for key, tensor in m.out.items()}


def make_checkpoint(path: Path, generation: str = "7", **options: object) -> dict[str, torch.Tensor]:
    """Write a random model to `path` with torch.save; what was written (see `checkpoint_tensors`)."""
    tensors = checkpoint_tensors(generation, **options)  # type: ignore[arg-type]
    torch.save(tensors, path)
    return tensors


def make_adapter(
    path: Path,
    base: Path,
    *,
    r: int = 4,
    alpha: float = 8.0,
    size: float = 0.05,
    seed: int = 1,
    full: tuple[str, ...] = ("blocks.0.ln1.weight", "blocks.1.att.x_r"),
    with_meta: bool = True,
    **meta: object,
) -> dict[str, torch.Tensor]:
    """Write a LoRA on every projection of a base model; its tensors.

    Args:
        size: standard deviation of B's elements. full: tensors that were trained in full.
        with_meta: False writes what other trainers write: bf16, without metadata.
        meta: fields of the metadata that should differ from the truth.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.load(base, weights_only=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] in ("receptance", "key", "value", "output", "gate"):
            rows, columns = weight.shape
            tensors[f"{module}.lora_A"] = torch.randn(r, columns, generator=generator)
            tensors[f"{module}.lora_B"] = torch.randn(rows, r, generator=generator) * size
        if name in full:
            tensors[name] = weight.float() + 0.1 * torch.randn(weight.shape, generator=generator)
    if not with_meta:
        torch.save({name: tensor.bfloat16() for name, tensor in tensors.items()}, path)
        return {name: tensor.bfloat16() for name, tensor in tensors.items()}
    truth = {
        "method": "lora", "r": r, "alpha": alpha, "parts": ("att", "ffn"), "generation": "7", "n_layer": 2,
        "n_embd": 64, "base_name": base.name, "base_bytes": base.stat().st_size,
        "base_sha256": hashlib.sha256(base.read_bytes()).hexdigest(), "run_id": "run", "step": 10, "epoch": 1,
        "tokens": 1000, "trainer": "test",
    }  # fmt: skip
    write_adapter(path, tensors, AdapterMeta.model_validate(truth | meta))
    return tensors
