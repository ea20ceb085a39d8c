"""How much of the activations to keep for the backward pass: as much as there is memory for."""

from __future__ import annotations

import logging
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from trainer.models.recompute import Policy, keeping_by
from trainer.models.skeleton import RWKV

MEASURED_TOKENS = 256
# The rest is for the head's tiles, for what an evaluation needs, and for what a measurement does not see.
USABLE_SHARE = 0.8
# A gradient and AdamW's two moments, in fp32.
TRAINED_BYTES = 12

_LOG = logging.getLogger(__name__)


def choose_policy(model: RWKV, tokens: int, free_bytes: int) -> Policy:
    """The quickest policy whose activations fit; the most saving one if none does.

    Args:
        model: in training mode, with its adapter. tokens: of a micro-batch, all rows.
        free_bytes: what is free beside the model itself.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) * TRAINED_BYTES
    usable = USABLE_SHARE * (free_bytes - trained)
    needed = needed_bytes(model, tokens)
    fitting: list[Policy] = [policy for policy, size in needed.items() if size <= usable]
    policy = fitting[0] if fitting else "full"
    _LOG.info(
        "Activations: %s is computed again (%s; %.2f GB may be used)",
        {"none": "nothing", "selective": "all but the large products", "full": "everything"}[policy],
        ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in needed.items()),
        usable / 1e9,
    )
    return policy


def needed_bytes(model: RWKV, tokens: int) -> dict[Policy, int]:
    """Activations that each policy holds at once, the quickest first; measured on a block of the model."""
    layers, scale = len(model.blocks), tokens / MEASURED_TOKENS
    everything, products, block_input = (size * scale for size in _block_bytes(model))
    return {
        "none": round(layers * everything),
        "selective": round(layers * (block_input + products) + everything),
        "full": round(layers * block_input + everything),
    }


def free_memory_bytes(device: str) -> int:
    return torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available


def _block_bytes(model: RWKV) -> tuple[int, int, int]:
    """What the last block keeps of `MEASURED_TOKENS` tokens: all of it, its products, its input."""
    device = model.head.weight.device
    # Dropout draws random numbers, and a run must draw the same ones with and without this.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        x = torch.randn(1, MEASURED_TOKENS, model.spec.n_embd, device=device, dtype=model.compute_dtype)
        x.requires_grad_()
        with torch.no_grad():
            _, v_first, _ = model.blocks[0](x, None, None, None)
        own = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers(), x)}
        saved: dict[int, int] = {}
        products: list[Tensor] = []

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor  # and so it stays alive, and no other one gets its place

        def put(product: Callable[[], Tensor]) -> Tensor:
            products.append(product())
            return products[-1]

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), keeping_by(put):
            held = model.blocks[-1](x, v_first, None, None)
        del held
    return sum(saved.values()), sum(product.nbytes for product in products), x.nbytes
