"""Order of rows and the validation split, as functions of a seed: a resumed run goes on exactly."""

from __future__ import annotations

import numpy as np


def _generator(*key: int) -> np.random.RandomState:
    # RandomState's stream is frozen for all NumPy versions, Generator's is not; resuming survives updates.
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(key)))


class Permutation:
    """The endless sequence of passes over n rows, each in an order of its own.

    Args:
        seed: not negative.
        n: number of rows, at least 1.
    """

    def __init__(self, seed: int, n: int) -> None:
        if n < 1:
            raise ValueError("a permutation needs a row")
        self.seed = seed
        self.n = n
        self._pass = -1
        self._order = np.zeros(0, dtype=np.int64)

    def at(self, k: int) -> int:
        """The row at position k >= 0; positions p·n to p·n + n - 1 visit every row once."""
        number, index = divmod(k, self.n)
        if number != self._pass:
            self._order = _generator(self.seed, number).permutation(self.n)
            self._pass = number
        return int(self._order[index])


def split_documents(n: int, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide n documents into those for training and those for validation.

    Args:
        n: number of documents.
        val_fraction: share for validation; above 0 it gets one document at least, where two are there.
        seed: not negative.

    Returns:
        Ascending document numbers, int64, of training and of validation; together all n.
    """
    n_val = min(max(1, round(n * val_fraction)), n - 1) if val_fraction > 0 and n > 0 else 0
    # A third word in the key keeps the split apart from the order of any pass.
    chosen = _generator(seed, 0, 1).permutation(n)[:n_val]
    is_val = np.zeros(n, dtype=bool)
    is_val[chosen] = True
    return np.flatnonzero(~is_val).astype(np.int64), np.flatnonzero(is_val).astype(np.int64)
