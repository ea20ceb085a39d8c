"""The estimate in the window: as the form changes, in both languages, and the button that makes it fit."""

from __future__ import annotations

from typing import Any

import pytest

from runner_gui.i18n import set_language
from runner_gui.widgets.estimate_panel import EstimatePanel

FOUND: dict[str, Any] = {
    "device_name": "CPU", "available_bytes": 8_000_000_000, "total_bytes": 2_000_000_000,
    "least_bytes": 1_000_000_000, "largest_tokens": 4096, "fits": True, "changes": {}, "tok_s": 1000.0,
    "step_s": 8.0, "total_steps": 100,
}  # fmt: skip


@pytest.fixture
def panel(dressed: Any, qtbot: Any) -> EstimatePanel:
    panel = EstimatePanel()
    qtbot.addWidget(panel)
    return panel


def test_empty_until_there_is_something_to_say(panel: EstimatePanel) -> None:
    assert panel.isHidden()
    panel.show_estimate(FOUND)
    assert not panel.isHidden()
    assert "2.0 GB" in panel.memory.text()
    assert "13 min" in panel.time.text()
    assert panel.warning.isHidden()
    assert panel.fix.isHidden()
    assert panel.bar.value() == 250
    panel.clear()
    assert panel.isHidden()


def test_close_and_too_much(panel: EstimatePanel, qtbot: Any) -> None:
    panel.show_estimate({**FOUND, "total_bytes": 7_500_000_000})
    assert panel.tone == "amber"
    assert not panel.warning.isHidden()
    changes = {"micro_bsz": 1, "grad_cp": True, "quant": "nf4"}
    too_much = {**FOUND, "least_bytes": 9_000_000_000, "fits": False, "changes": changes}
    panel.show_estimate(too_much)
    assert panel.tone == "red"
    assert "9.0 GB" in panel.memory.text()
    assert panel.bar.value() == panel.bar.maximum()
    with qtbot.waitSignal(panel.changes_chosen) as taken:
        panel.fix.click()
    assert taken.args == [changes]
    panel.show_estimate({**too_much, "changes": None})
    assert panel.fix.isHidden()


def test_what_is_not_known(panel: EstimatePanel) -> None:
    panel.show_estimate({**FOUND, "total_steps": None})
    unknown = panel.time.text()
    assert not any(digit in unknown for digit in "0123456789")
    panel.show_total_steps(1000)  # a report on the data has told
    assert panel.time.text() != unknown
    panel.show_estimate({**FOUND, "step_s": None, "tok_s": None})
    assert panel.time.text() == unknown


def test_in_both_languages(panel: EstimatePanel) -> None:
    panel.show_estimate({**FOUND, "fits": False, "changes": {"ctx_len": 512}})
    english = panel.warning.text()
    set_language("zh_CN")
    assert panel.warning.text() != english
    assert "512" in panel.warning.text()


def test_the_form_asks_and_takes_the_changes(window: Any, qtbot: Any) -> None:
    page = window.train_page
    page.form_state.load({**page.form_state.values, "device": "cpu", "ctx_len": 1_048_576, "micro_bsz": 512})
    with qtbot.waitSignal(page.estimate.estimator.finished, timeout=60_000) as found:
        page.estimate.refresh()
    assert not found.args[0]["fits"]
    panel = page.panel.estimate
    assert panel.tone == "red"
    combo = page.form.rows["precision"].editor.combo
    offered = {combo.itemData(i) for i in range(combo.count()) if combo.model().item(i).isEnabled()}
    assert offered == {"bf16", "fp32"}  # on a CPU
    with qtbot.waitSignal(page.estimate.estimator.finished, timeout=60_000) as found:
        panel.fix.click()
    assert found.args[0]["fits"]
    assert panel.tone != "red"
