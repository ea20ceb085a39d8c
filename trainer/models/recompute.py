"""What of a block's activations is kept for the backward pass, and what is computed again there.

Large products are most of a step's work, but their results are a small part of what a block keeps:
recomputing everything but them costs little and saves most of the memory (selective activation
recomputation, Korthikanti et al., arXiv 2205.05198).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from torch import Tensor
from torch.utils.checkpoint import checkpoint

Policy = Literal["none", "selective", "full"]
"""What is computed again: nothing; everything but the frozen projections' products; everything."""
POLICIES: tuple[Policy, ...] = ("none", "selective", "full")

_Keep = Callable[[Callable[[], Tensor]], Tensor]
_keep: ContextVar[_Keep | None] = ContextVar("keep", default=None)


def kept(product: Callable[[], Tensor]) -> Tensor:
    """The result of `product`; that of the forward pass where a block is computed again.

    To be called inside the forward of an autograd function. The result must not be changed afterwards.
    """
    keep = _keep.get()
    return product() if keep is None else keep(product)


@contextmanager
def keeping_by(keep: _Keep) -> Iterator[None]:
    """Let `keep` decide what `kept` returns."""
    token = _keep.set(keep)
    try:
        yield
    finally:
        _keep.reset(token)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the forward pass, whose products are kept, and for the pass that takes them from there."""
    products: list[Tensor] = []
    results = iter(products)

    def put(product: Callable[[], Tensor]) -> Tensor:
        products.append(product())
        return products[-1]

    return keeping_by(put), keeping_by(lambda product: next(results))


def run(policy: Policy, block: Callable[..., Any], *arguments: Any) -> Any:
    """`block(*arguments)`, of whose activations only what the policy says is kept."""
    if policy == "none":
        return block(*arguments)
    if policy == "full":
        return checkpoint(block, *arguments, use_reentrant=False)
    return checkpoint(block, *arguments, use_reentrant=False, context_fn=_contexts)
