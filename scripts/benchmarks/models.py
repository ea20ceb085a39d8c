"""Models of the published sizes with random weights: what is in them changes no time."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.attach import attach
from trainer.kernels.wkv7 import wkv7_reference
from trainer.models import skeleton
from trainer.models.initial import initialise
from trainer.models.layouts import ModelSpec
from trainer.models.rwkv7 import RWKV7
from trainer.models.skeleton import RWKV
from trainer.training.head_loss import head_cross_entropy

VOCAB_SIZE = 65536
RANK = 32
Step = Callable[[Tensor, Tensor], float]
"""(tokens [B, T], targets [B, T]) -> the loss; one update."""


def rwkv7_spec(n_layer: int, width: int) -> ModelSpec:
    """RWKV-7 with the ranks of the published models of about this width."""
    ranks = {
        name: max(32, round(f * width**0.5 / 32) * 32)
        for name, f in zip("wavg", (2.5, 2.5, 1.7, 5.0), strict=True)
    }
    return ModelSpec(
        generation="7", n_layer=n_layer, n_embd=width, dim_att=width, dim_ffn=4 * width,
        vocab_size=VOCAB_SIZE, head_size=64, n_head=width // 64, ranks=ranks, layer0_v=False,
        dtypes=("bf16",), parameters=0,
    )  # fmt: skip


def lora_model(spec: ModelSpec, device: str = "cpu", dtype: torch.dtype = torch.float32) -> RWKV:
    model = initialise(RWKV7(spec), seed=0).to(device=device, dtype=dtype)
    model.compute_dtype = dtype
    attach(model, "lora", r=RANK, alpha=float(RANK), parts=("att", "ffn"))
    return model.train()


def updates(model: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Step:
    """One AdamW update of what is trained."""
    trained = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def step(tokens: Tensor, targets: Tensor) -> float:
        loss = loss_of(tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def our_step(model: RWKV) -> Step:
    def loss_of(tokens: Tensor, targets: Tensor) -> Tensor:
        hidden, _ = model(tokens)
        total = head_cross_entropy(hidden.flatten(0, 1), model.head.weight, targets.flatten())
        return total / int((targets >= 0).sum())

    return updates(model, loss_of)


def naive_step(model: RWKV) -> Step:
    """The same model as it is written down in papers: a loop over the tokens, and all logits at once."""

    def loss_of(tokens: Tensor, targets: Tensor) -> Tensor:
        with recurrence(wkv7_reference):
            hidden, _ = model(tokens)
        return F.cross_entropy(model.head(hidden).flatten(0, 1), targets.flatten())

    return updates(model, loss_of)


class recurrence:  # noqa: N801 - used as `with recurrence(op):`
    """Makes every model compute RWKV-7's recurrence by `op`, whatever this machine would choose."""

    def __init__(self, op: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self._op = op

    def __enter__(self) -> None:
        self._before = skeleton.choose
        setattr(skeleton, "choose", lambda *_: ("given", self._op))  # noqa: B010

    def __exit__(self, *_: object) -> None:
        setattr(skeleton, "choose", self._before)  # noqa: B010


def tokens_and_targets(B: int, T: int, share: float = 1.0, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Random tokens; the last `share` of the targets count."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCAB_SIZE, (B, T), generator=generator)
    targets = tokens.roll(-1, 1)
    targets[:, : round(T * (1 - share))] = -100
    return tokens.to(device), targets.to(device)


def product_flops(spec: ModelSpec, tokens: int, counted: int) -> float:
    """Flops of the matrix products of a step: forward and back, head on counted rows."""
    C, A, low = spec.n_embd, spec.dim_att, sum(spec.ranks.values())
    block = 4 * C * A + 2 * C * spec.dim_ffn + 2 * C * low
    lora = RANK * (8 * C + 2 * (C + spec.dim_ffn))
    body = spec.n_layer * (4 * block + 6 * lora)
    return body * tokens + 4 * C * spec.vocab_size * counted
