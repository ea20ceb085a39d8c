"""Drift from the base: against float64, and in runs, where it begins at nothing and is told in events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.contract.errors import InputError
from trainer.contract.params import checked
from trainer.data.binidx import BinidxReader
from trainer.data.cache import ensure_converted
from trainer.models.checkpoint import open_checkpoint
from trainer.models.loading import load_model
from trainer.training.drift import GENERAL_TEXT, DriftProbe, divergence, open_general_text


def test_the_sums_over_tiles_are_those_over_all_of_the_vocabulary() -> None:
    torch.manual_seed(0)
    p_hidden, q_hidden = (torch.randn(7, 24) * scale for scale in (3, 5))
    p_head, q_head = torch.randn(101, 24), torch.randn(101, 24)
    targets = torch.randint(101, (7,))
    tiles = zip(p_head.split(17), q_head.split(17), strict=True)
    kl, p_loss, q_loss = divergence(p_hidden, q_hidden, tiles, targets)
    log_p = torch.log_softmax(p_hidden.double() @ p_head.double().t(), 1)
    log_q = torch.log_softmax(q_hidden.double() @ q_head.double().t(), 1)
    torch.testing.assert_close(kl, (log_p.exp() * (log_p - log_q)).sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p_loss, -log_p[torch.arange(7), targets], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q_loss, -log_q[torch.arange(7), targets], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("generation", ["4", "5.2", "6", "7"])
def test_a_model_changed_anywhere_is_compared_with_what_it_was(
    make_checkpoint: Callable[..., Any], tmp_path: Path, generation: str
) -> None:
    path = tmp_path / "base.pth"
    make_checkpoint(path, generation=generation, n_layer=2, n_embd=32, vocab=65536, head_size=16)
    text = tmp_path / "text.txt"
    text.write_text("Water boils at a lower temperature on a mountain. " * 3, encoding="utf-8")
    reader = BinidxReader(ensure_converted(text, None, 65536, tmp_path / "cache"))
    model = load_model(path)
    probe = DriftProbe(model, open_checkpoint(path), reader)
    same = probe.measure(model)
    assert same.kl == pytest.approx(0, abs=1e-6)
    assert same.loss == pytest.approx(same.base_loss, abs=1e-6)

    tokens = torch.from_numpy(np.asarray(reader[0]).astype(np.int64))
    before = torch.log_softmax(model.logits(model(tokens[None, :-1])[0])[0].double(), 1)
    with torch.no_grad():  # what is trained in full changes in place, the head too
        model.head.weight.add_(torch.randn_like(model.head.weight) * 0.05)
        model.blocks[0].ffn.key.weight.mul_(1.2)
    after = torch.log_softmax(model.logits(model(tokens[None, :-1])[0])[0].double(), 1)
    got = probe.measure(model)
    assert got.tokens == len(tokens) - 1
    assert got.kl == pytest.approx(float((before.exp() * (before - after)).sum(1).mean()), rel=1e-4)
    assert got.base_loss == pytest.approx(float(-before.gather(1, tokens[1:, None]).mean()), rel=1e-5)
    assert got.loss == pytest.approx(float(-after.gather(1, tokens[1:, None]).mean()), rel=1e-5)


@pytest.mark.parametrize("values", [{"method": "lora"}, {"method": "pissa"}, {"method": "full"}])
def test_a_run_tells_of_it(run_train: Callable[..., Any], values: dict[str, Any]) -> None:
    ran = run_train(drift=True, epoch_count=1, eval_every=3, **values)
    found = ran.of("drift")
    assert [event["step"] for event in found] == sorted({0, *range(3, ran.step + 1, 3), ran.step})
    assert found[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert found[-1]["kl"] > 1e-3
    assert all(event["tokens"] == found[0]["tokens"] > 500 for event in found)
    assert {event["base_loss"] for event in found} == {found[0]["base_loss"]}


def test_a_run_that_goes_on_compares_with_the_same_base(run_train: Callable[..., Any]) -> None:
    whole = run_train("whole", drift=True, eval_every=2).of("drift")
    run_train("cut", drift=True, eval_every=2, at={3: {"cmd": "stop", "save": True}})
    cut = {event["step"]: event["kl"] for event in run_train("cut", resume=True).of("drift")}
    assert cut == {event["step"]: event["kl"] for event in whole}


def test_which_text_is_read(tmp_path: Path) -> None:
    def opened(vocab_size: int = 65536, **values: Any) -> BinidxReader | None:
        params = checked({"base_model": "b", "data": "d", **values})
        return open_general_text(params, vocab_size, tmp_path / "cache")

    ours = opened()
    assert ours is not None
    assert ours.meta is not None
    assert ours.meta.data_name == GENERAL_TEXT.name
    assert opened(drift=False) is None
    # No vocabulary is known for such a model: our own text is left out, one that was asked for is refused.
    assert opened(vocab_size=1234) is None
    own = tmp_path / "own.txt"
    own.write_text("a text of one's own", encoding="utf-8")
    found = opened(drift_data=str(own))
    assert found is not None
    assert found.tokens < 20
    with pytest.raises(InputError):
        opened(vocab_size=1234, drift_data=str(own))
    with pytest.raises(InputError):
        opened(drift_data=str(tmp_path / "missing.txt"))
