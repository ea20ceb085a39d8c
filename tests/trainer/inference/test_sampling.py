from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from trainer.inference.sampling import Sampler, SamplingParams, candidates


def _logits(size: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=size) * spread).astype(np.float32)


def _nucleus(logits: np.ndarray, top_p: float, top_k: int) -> list[int]:
    """The definition, in plain Python floats."""
    exact = [float(x) for x in logits]
    z = math.fsum(math.exp(x) for x in exact)
    kept, total = [], 0.0
    for token in sorted(range(len(exact)), key=lambda i: (-exact[i], i)):
        kept.append(token)
        total += math.exp(exact[token]) / z
        if total >= top_p or len(kept) == top_k:
            break
    return kept


@pytest.mark.parametrize("size", [50, 5000])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("top_k", [0, 1, 7])
def test_candidates_are_the_definition(size: int, top_p: float, top_k: int) -> None:
    logits = _logits(size, seed=size).astype(np.float64)
    tokens, kept = candidates(logits, top_p, top_k)
    assert tokens.tolist() == _nucleus(logits, top_p, top_k)
    assert kept.tolist() == logits[tokens].tolist()


def test_a_flat_distribution_keeps_more_than_the_partial_sort_holds() -> None:
    tokens, _ = candidates(np.zeros(4096), 0.75, 0)
    assert tokens.tolist() == list(range(3072))


def test_without_cuts_every_token_stays() -> None:
    logits = _logits(300).astype(np.float64)
    assert candidates(logits, 1.0, 0)[0].tolist() == list(range(300))


def test_top_k_alone_keeps_the_best_and_resolves_ties_by_id() -> None:
    tokens, _ = candidates(np.array([1.0, 3.0, 2.0, 3.0, 2.0]), 1.0, 3)
    assert tokens.tolist() == [1, 3, 2]


def test_frequencies_follow_the_temperature() -> None:
    probabilities = np.array([0.5, 0.3, 0.2])
    sampler = Sampler(SamplingParams(temperature=2.0, top_p=1.0, seed=1))
    counts = Counter(sampler.sample(np.log(probabilities)).token for _ in range(20_000))
    expected = np.sqrt(probabilities) / np.sqrt(probabilities).sum()
    for token in range(3):
        # four standard deviations of a binomial share
        bound = 4 * math.sqrt(expected[token] * (1 - expected[token]) / 20_000)
        assert counts[token] / 20_000 == pytest.approx(expected[token], abs=bound)


def test_temperature_zero_takes_the_first_of_the_likeliest() -> None:
    sampler = Sampler(SamplingParams(temperature=0.0))
    assert sampler.sample(np.array([0.0, 5.0, 5.0, 1.0])).token == 1


def test_the_same_seed_gives_the_same_tokens_and_another_does_not() -> None:
    def tokens(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(top_p=1.0, seed=seed))
        return [sampler.sample(_logits(200, seed=i)).token for i in range(40)]

    assert tokens(7) == tokens(7)
    assert tokens(7) != tokens(8)


def test_logprob_is_the_models_own_whatever_is_sampled_from() -> None:
    logits = _logits(1000, seed=3)
    exact = logits.astype(np.float64)
    log_z = math.log(math.fsum(np.exp(exact)))
    params = SamplingParams(top_k=1, logit_bias={4: 100.0}, presence_penalty=1.0, top_logprobs=3)
    sampled = Sampler(params).sample(logits)
    assert sampled.token == 4
    assert sampled.logprob == pytest.approx(exact[4] - log_z, abs=1e-12)
    assert [top.token for top in sampled.top] == np.argsort(-exact)[:3].tolist()
    assert sampled.top[0].logprob == pytest.approx(exact.max() - log_z, abs=1e-12)


def test_penalties_decay_with_every_token() -> None:
    """Token 0 leads by 3; its penalty after k tokens is 1 + count, the count decaying by half."""
    params = SamplingParams(temperature=0.0, presence_penalty=1.0, frequency_penalty=1.5, penalty_decay=0.5)
    sampler = Sampler(params)
    logits = np.array([3.0, 0.9, -50.0])
    counts = {0: 0.0, 1: 0.0}
    for _ in range(12):
        adjusted = [logits[t] - (1.0 + 1.5 * counts[t] if counts[t] else 0.0) for t in (0, 1)]
        expected = int(adjusted[1] > adjusted[0])
        assert sampler.sample(logits).token == expected
        counts = {t: count * 0.5 for t, count in counts.items()}
        counts[expected] += 1.0
    assert counts[1] > 0  # the penalty did change the choice


def test_logits_stay_as_they_were() -> None:
    logits = _logits(100)
    before = logits.copy()
    sampler = Sampler(SamplingParams(frequency_penalty=2.0, logit_bias={3: -100.0, 100_000: 1.0}, seed=0))
    for _ in range(5):
        assert sampler.sample(logits).token != 3
    assert np.array_equal(logits, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Sampler(SamplingParams()).sample(np.array([0.0, bad, 1.0]))


def test_every_draw_is_a_candidate() -> None:
    logits = _logits(400, spread=1.0).astype(np.float64)
    for top_p, top_k in itertools.product((0.1, 0.6), (0, 5)):
        allowed = set(_nucleus(logits, top_p, top_k))
        sampler = Sampler(SamplingParams(top_p=top_p, top_k=top_k, temperature=5.0, seed=2))
        assert {sampler.sample(logits).token for _ in range(200)} <= allowed
