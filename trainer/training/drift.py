"""How far training has moved a model from its base: the Kullback-Leibler divergence on general text.

    KL = mean over tokens of Σ_v p(v) (log p(v) - log q(v)),      p of the base, q of the model now, in nats

It tells of forgetting before the answers do. The base's hidden vectors are kept from the start and its head
is read from its file in tiles, so neither a second model nor a tensor of tokens × vocabulary exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from trainer.contract.errors import InputError
from trainer.contract.params import TrainParams
from trainer.data.binidx import BinidxReader
from trainer.data.cache import ensure_converted
from trainer.models.checkpoint import CheckpointFile, as_tensor
from trainer.models.skeleton import RWKV, HeadLoss
from trainer.training.evaluation import read_documents, tokens_to_read

CHUNKS = 2
VOCAB_TILE = 1024
GENERAL_TEXT = Path(__file__).with_name("general.txt")


@dataclass(frozen=True, slots=True)
class Drift:
    """kl: nats per token, of the base's distribution against the model's.

    loss, base_loss: nats per token of the text itself. tokens: that were compared.
    """

    kl: float
    loss: float
    base_loss: float
    tokens: int


def open_general_text(params: TrainParams, vocab_size: int, cache: Path) -> BinidxReader | None:
    """The text that drift is measured on, converted; None where it is not to be measured.

    Without a tokenizer for the model's vocabulary our own text cannot be read, and nothing is measured.

    Raises:
        InputError: the text that was given cannot be used.
    """
    if not params.drift:
        return None
    vocab = None if params.vocab is None else Path(params.vocab)
    path = GENERAL_TEXT if params.drift_data is None else Path(params.drift_data)
    try:
        reader = BinidxReader(ensure_converted(path, vocab, vocab_size, cache))
    except InputError:
        if params.drift_data is None:
            return None
        raise
    if not tokens_to_read(reader.sizes):
        raise InputError("data_no_target", path=str(path))
    return reader


class DriftProbe:
    """Made of a base before anything is attached to it; then measures what has become of it.

    Args:
        model: the base. base: its file, for the head.
        reader: general text; what of it is read are the first `CHUNKS` × `CHUNK_TOKENS` tokens.
    """

    def __init__(self, model: RWKV, base: CheckpointFile, reader: BinidxReader) -> None:
        self._base, self._reader = base, reader
        self._hidden = [hidden for hidden, _ in self._read(model, None)]

    def measure(self, model: RWKV) -> Drift:
        """Compare the model as it is with the base as it was."""
        waiting = iter(self._hidden)
        sums = [
            got
            for got, _ in self._read(model, lambda targets: partial(self._compare, next(waiting), targets))
        ]
        kl, base_loss, loss, tokens = torch.stack(sums).sum(0).tolist()
        return Drift(kl / tokens, loss / tokens, base_loss / tokens, int(tokens))

    def _read(
        self, model: RWKV, loss_of: Callable[[Tensor], HeadLoss] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(read_documents(model, self._reader, range(len(self._reader)), loss_of=loss_of), CHUNKS)

    def _compare(self, base_hidden: Tensor, targets: Tensor, hidden: Tensor, head: Tensor) -> Tensor:
        """Sums over a chunk of KL and both losses, and its tokens: float64 [4]."""
        rows = (targets.flatten() >= 0).nonzero().squeeze(1)
        heads = zip(self._base_head(head.device), head.split(VOCAB_TILE), strict=True)
        found = divergence(
            base_hidden.flatten(0, 1)[rows], hidden.flatten(0, 1)[rows], heads, targets.flatten()[rows]
        )
        return torch.stack([*(values.sum() for values in found), torch.tensor(float(len(rows))).to(found[0])])

    def _base_head(self, device: torch.device) -> Iterator[Tensor]:
        info = self._base.infos["head.weight"]
        for block in self._base.blocks("head.weight", VOCAB_TILE * info.shape[1]):
            yield as_tensor(block, info.dtype).to(device)


def divergence(
    p_hidden: Tensor, q_hidden: Tensor, heads: Iterable[tuple[Tensor, Tensor]], targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """KL(p ‖ q) and both cross-entropies of each row, from one pass over tiles of the two heads.

    With z the logits, KL = E_p[z_p - z_q] - lse(z_p) + lse(z_q); the sums behind the logarithms are carried
    from tile to tile and rescaled when the maximum grows.

    Args:
        p_hidden, q_hidden: [n, C]. heads: the same rows of both heads, [rows, C] each, in order.
        targets: int64 [n].

    Returns:
        float64 [n] each: KL, cross-entropy of p, of q, in nats.
    """
    n = len(targets)
    top_p, top_q = (torch.full((n,), -torch.inf, device=targets.device) for _ in range(2))
    sum_p, sum_q, cross, target_p, target_q = (
        torch.zeros(n, dtype=torch.float64, device=targets.device) for _ in range(5)
    )
    first = 0
    for p_head, q_head in heads:
        zp, zq = p_hidden.float() @ p_head.float().t(), q_hidden.float() @ q_head.float().t()
        new_p, new_q = torch.maximum(top_p, zp.amax(1)), torch.maximum(top_q, zq.amax(1))
        p, q = (zp - new_p[:, None]).exp(), (zq - new_q[:, None]).exp()
        shrunk = (top_p - new_p).exp().double()
        sum_p, cross = sum_p * shrunk + p.sum(1), cross * shrunk + (p * (zp - zq)).sum(1)
        sum_q = sum_q * (top_q - new_q).exp().double() + q.sum(1)
        rows = ((targets >= first) & (targets < first + len(p_head))).nonzero().squeeze(1)
        columns = targets[rows] - first
        target_p[rows], target_q[rows] = zp[rows, columns].double(), zq[rows, columns].double()
        top_p, top_q, first = new_p, new_q, first + len(p_head)
    lse_p, lse_q = sum_p.log() + top_p, sum_q.log() + top_q
    return cross / sum_p - lse_p + lse_q, lse_p - target_p, lse_q - target_q
