"""Answers before and after training, side by side, and text of a model that means nothing to HTML."""

from __future__ import annotations

from typing import Any

import pytest

from runner_gui.i18n import set_language
from runner_gui.model.series import Sample
from runner_gui.widgets.samples_view import SamplesView


@pytest.fixture
def view(dressed: Any, qtbot: Any) -> SamplesView:
    view = SamplesView()
    qtbot.addWidget(view)
    return view


def test_before_and_after(view: SamplesView) -> None:
    empty = view.text.toPlainText()
    assert empty
    samples = [
        Sample(0, "hello", "before <b>"),
        Sample(10, "hello", "ten"),
        Sample(20, "hello", "twenty &amp; on"),
    ]
    view.show_samples(samples)
    text = view.text.toPlainText()
    assert "before <b>" in text
    assert "twenty &amp; on" in text
    assert "ten" not in text
    view.steps.setCurrentIndex(1)
    view.steps.activated.emit(1)
    assert "ten" in view.text.toPlainText()
    # A step that was chosen stays when more come.
    view.show_samples([*samples, Sample(30, "hello", "thirty")])
    assert "ten" in view.text.toPlainText()
    assert "thirty" not in view.text.toPlainText()


def test_the_newest_is_followed(view: SamplesView) -> None:
    view.show_samples([Sample(0, "a", "x")])
    assert view.steps.isHidden()
    view.show_samples([Sample(0, "a", "x"), Sample(5, "a", "y")])
    assert "y" in view.text.toPlainText()
    view.show_samples([])
    assert view.text.toPlainText()


def test_the_answer_of_the_data_and_both_languages(view: SamplesView) -> None:
    view.show_samples([Sample(0, "问题", "x", "答案"), Sample(3, "问题", "y", "答案")])
    english = view.text.toPlainText()
    assert "答案" in english
    set_language("zh_CN")
    assert view.text.toPlainText() != english
    assert "训练前" in view.text.toPlainText()
