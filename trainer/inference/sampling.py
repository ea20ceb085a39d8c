"""Choosing the next token: penalties, top-k, top-p, temperature, seeded; all in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Enough for nearly every nucleus; a flatter distribution takes the full sort.
_PARTIAL_SORT = 1024


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How an answer is sampled and where it ends.

    Attributes:
        max_tokens: the answer's limit, at least 1.
        temperature: 0 takes the most likely token.
        top_p: the smallest set of tokens with this probability together; it is taken from the model's own
            distribution, before the temperature, as RWKV's other programs do.
        top_k: 0 means all.
        presence_penalty: subtracted from the logit of every token that the answer already holds.
        frequency_penalty: subtracted once for each time that the answer holds the token.
        penalty_decay: what an occurrence's weight is multiplied by with every further token.
        seed: None draws one from the system.
        stop: texts that end the answer and are not part of it.
        stop_tokens: tokens that do the same; 0 ends a document in every RWKV vocabulary.
        logit_bias: added to logits, by token.
        top_logprobs: how many alternatives are reported with each token.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 0.5
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_decay: float = 0.996
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = (0,)
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability under the model, before any penalty."""

    token: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """The chosen token and the most likely ones, best first."""

    token: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class Sampler:
    """Samples one answer; it remembers what the answer holds, for the penalties."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._random = np.random.default_rng(params.seed)
        self._counts: dict[int, float] = {}

    def sample(self, logits: NDArray[np.floating]) -> Sampled:
        """The next token.

        Args:
            logits: [V], as the model gives them; left unchanged.

        Raises:
            ValueError: a logit is not a number, or none is finite.
        """
        exact = np.asarray(logits, dtype=np.float64)
        top = exact.max()
        if not np.isfinite(top):
            raise ValueError("the model's logits are not finite numbers")
        log_z = top + np.log(np.exp(exact - top).sum())
        adjusted = self._adjusted(exact)
        if self._params.temperature == 0.0:
            token = int(adjusted.argmax())
        else:
            token = self._draw(*candidates(adjusted, self._params.top_p, self._params.top_k))
        self._remember(token)
        return Sampled(token, float(exact[token] - log_z), self._most_likely(exact, log_z))

    def _adjusted(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        p = self._params
        bias = {token: value for token, value in p.logit_bias.items() if 0 <= token < logits.size}
        penalised = bool(self._counts) and (p.presence_penalty != 0.0 or p.frequency_penalty != 0.0)
        if not bias and not penalised:
            return logits
        adjusted = logits.copy()
        for token, value in bias.items():
            adjusted[token] += value
        if penalised:
            for token, count in self._counts.items():
                adjusted[token] -= p.presence_penalty + count * p.frequency_penalty
        return adjusted

    def _draw(self, tokens: NDArray[np.int64], logits: NDArray[np.float64]) -> int:
        """One of the candidates, by inversion of the cumulative distribution at the temperature."""
        weights = np.exp((logits - logits.max()) / self._params.temperature)
        cumulative = np.cumsum(weights)
        at = np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right")
        return int(tokens[min(int(at), tokens.size - 1)])

    def _remember(self, token: int) -> None:
        for seen in self._counts:
            self._counts[seen] *= self._params.penalty_decay
        self._counts[token] = self._counts.get(token, 0.0) + 1.0

    def _most_likely(self, logits: NDArray[np.float64], log_z: float) -> tuple[TokenLogprob, ...]:
        best = _descending(logits, min(self._params.top_logprobs, logits.size))
        return tuple(TokenLogprob(int(token), float(logits[token] - log_z)) for token in best)


def candidates(
    logits: NDArray[np.float64], top_p: float, top_k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that top-k and top-p leave, and their logits.

    Most likely first, except that nothing is sorted where nothing is cut. One token is always left.

    Args:
        logits: [V].
        top_p: at 1 or more nothing is cut.
        top_k: at 0 nothing is cut.
    """
    size = logits.size
    keep = min(top_k, size) if top_k > 0 else size
    if top_p >= 1.0:
        tokens = np.arange(size) if keep == size else _descending(logits, keep)
        return tokens, logits[tokens]
    weights = np.exp(logits - logits.max())
    wanted = top_p * weights.sum()
    tokens = _descending(logits, min(_PARTIAL_SORT, size))
    cumulative = np.cumsum(weights[tokens])
    if cumulative[-1] < wanted and keep > tokens.size:
        tokens = _descending(logits, size)
        cumulative = np.cumsum(weights[tokens])
    inside = int(np.searchsorted(cumulative, wanted, side="left")) + 1
    tokens = tokens[: max(1, min(inside, keep))]
    return tokens, logits[tokens]


def _descending(logits: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The `count` largest, largest first; equals in the order of their ids."""
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    if count >= logits.size:
        return np.argsort(-logits, kind="stable")
    least = np.partition(logits, logits.size - count)[logits.size - count]
    above = np.flatnonzero(logits > least)
    equal = np.flatnonzero(logits == least)[: count - above.size]
    tokens = np.sort(np.concatenate([above, equal]))
    return tokens[np.argsort(-logits[tokens], kind="stable")]
