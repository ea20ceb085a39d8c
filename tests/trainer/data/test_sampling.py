from __future__ import annotations

import numpy as np
import pytest

from trainer.data.sampling import Permutation, split_documents

EXPECTED_ORDER = [1, 8, 5, 3, 7, 9, 4, 0, 6, 2, 9, 5, 8, 7, 6, 4, 0, 3, 1, 2]


@pytest.mark.parametrize("n", [1, 2, 17, 1000])
def test_each_pass_visits_every_row_once(n: int) -> None:
    order = Permutation(42, n)
    for number in range(3):
        assert sorted(order.at(number * n + i) for i in range(n)) == list(range(n))


def test_any_position_can_be_asked_for_at_once() -> None:
    straight = [Permutation(7, 50).at(k) for k in range(200)]
    order = Permutation(7, 50)
    assert [order.at(k) for k in (199, 0, 120, 60)] == [straight[k] for k in (199, 0, 120, 60)]


def test_the_order_is_fixed_for_all_versions() -> None:
    order = Permutation(42, 10)
    assert [order.at(k) for k in range(20)] == EXPECTED_ORDER
    assert [Permutation(43, 10).at(k) for k in range(10)] != EXPECTED_ORDER[:10]
    assert EXPECTED_ORDER[:10] != EXPECTED_ORDER[10:]


@pytest.mark.parametrize(
    ("n", "fraction", "n_val"),
    [(100, 0.1, 10), (100, 0.0, 0), (3, 0.01, 1), (1, 0.5, 0), (2, 0.5, 1), (0, 0.1, 0)],
)
def test_the_split(n: int, fraction: float, n_val: int) -> None:
    train, val = split_documents(n, fraction, 42)
    assert (train.size, val.size) == (n - n_val, n_val)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(n))
    assert (np.diff(train) > 0).all()
    again = split_documents(n, fraction, 42)
    assert (again[0] == train).all()
    assert (again[1] == val).all()


def test_the_split_depends_on_the_seed() -> None:
    assert split_documents(100, 0.1, 1)[1].tolist() != split_documents(100, 0.1, 2)[1].tolist()


def test_a_permutation_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a row"):
        Permutation(1, 0)
