"""Other trainers of RWKV-7, as baselines.

They are looked for among the installed packages and in the folder of `--peers`, made by

    python -m venv FOLDER && FOLDER/bin/pip install rwkvtune rwkv7-hf peft
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from scripts.benchmarks.models import RANK, Step, updates
from trainer.models.layouts import ModelSpec


def look_in(folder: Path | None) -> None:
    """Find packages in this folder too, but none that is installed already. A venv's folder will do."""
    if folder is None:
        return
    inside = sorted(folder.glob("lib/python*/site-packages")) or [folder]
    sys.path.append(str(inside[0]))


def rwkvtune(spec: ModelSpec) -> Step:
    from rwkvtune.models import RWKV7Model  # type: ignore[import-not-found]
    from rwkvtune.models.rwkv7.config import SimpleTrainConfig  # type: ignore[import-not-found]
    from rwkvtune.peft.lora.layer import LoraLinear  # type: ignore[import-not-found]

    config = SimpleTrainConfig(
        n_layer=spec.n_layer, n_embd=spec.n_embd, vocab_size=spec.vocab_size, ctx_len=1 << 20,
        dim_att_lora=spec.ranks["w"], dim_mv_lora=spec.ranks["v"], dim_gate_lora=spec.ranks["g"],
    )  # fmt: skip
    model = RWKV7Model(config).requires_grad_(False)
    for block in model.blocks:
        for part, names in (
            (block.att, ("receptance", "key", "value", "output")),
            (block.ffn, ("key", "value")),
        ):
            for name in names:
                setattr(part, name, LoraLinear(getattr(part, name), r=RANK, lora_alpha=RANK))
    return updates(model.train(), lambda tokens, targets: _mean_loss(model(tokens), targets))


def rwkv7_hf(spec: ModelSpec) -> Step:
    from peft import LoraConfig, get_peft_model  # type: ignore[import-not-found]
    from rwkv7_hf import RWKV7Config, RWKV7ForCausalLM  # type: ignore[import-not-found]

    config = RWKV7Config(
        vocab_size=spec.vocab_size, hidden_size=spec.n_embd, num_hidden_layers=spec.n_layer, use_cache=False,
        decay_low_rank_dim=spec.ranks["w"], a_low_rank_dim=spec.ranks["a"], v_low_rank_dim=spec.ranks["v"],
        gate_low_rank_dim=spec.ranks["g"],
    )  # fmt: skip
    lora = LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        target_modules=["r_proj", "k_proj", "v_proj", "o_proj", "ffn.key", "ffn.value"],
    )
    model = get_peft_model(RWKV7ForCausalLM(config), lora)
    return updates(
        model.train(), lambda tokens, targets: _mean_loss(model(tokens, use_cache=False).logits, targets)
    )


def _mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


PEERS: dict[str, Callable[[ModelSpec], Step]] = {"rwkvtune": rwkvtune, "rwkv7-hf + peft": rwkv7_hf}


def available(spec: ModelSpec) -> dict[str, Step]:
    """A step of each peer that can be imported; the others are named on stderr."""
    found = {}
    for name, make in PEERS.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found[name] = make(spec)
        except ImportError as error:
            print(f"{name} is left out: {error}. See scripts/benchmarks/peers.py.", file=sys.stderr)
    return found
