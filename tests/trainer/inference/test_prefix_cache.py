from __future__ import annotations

import numpy as np

from trainer.inference.prefix_cache import PrefixCache

LOGITS = np.zeros(4, dtype=np.float32)


def test_the_longest_stored_prefix_is_found() -> None:
    cache = PrefixCache()
    cache.put([1], "one", LOGITS, 0)
    cache.put([1, 2, 3], "three", LOGITS, 0)
    cache.put([1, 2, 4], "other", LOGITS, 0)
    found = cache.longest([1, 2, 3, 5])
    assert found is not None
    assert found.state == "three"
    assert found.tokens.tolist() == [1, 2, 3]
    assert cache.longest([2, 1]) is None
    shorter = cache.longest([1, 2])
    assert shorter is not None
    assert shorter.state == "one"


def test_the_least_recently_used_makes_room() -> None:
    cache = PrefixCache(max_entries=2)
    cache.put([1], "a", LOGITS, 0)
    cache.put([2], "b", LOGITS, 0)
    assert cache.longest([1, 9]) is not None
    cache.put([3], "c", LOGITS, 0)
    assert cache.longest([2]) is None
    assert cache.longest([1]) is not None


def test_bytes_are_the_limit_and_are_counted_exactly() -> None:
    one = 100 + LOGITS.nbytes + 4
    cache = PrefixCache(max_bytes=2 * one)
    for token in range(5):
        cache.put([token], token, LOGITS, 100)
    assert (len(cache), cache.nbytes) == (2, 2 * one)
    cache.put([4], "again", LOGITS, 100)
    assert (len(cache), cache.nbytes) == (2, 2 * one)
    cache.put([9], "too big", LOGITS, 3 * one)
    assert cache.longest([9]) is None
    assert len(cache) == 2
