"""The estimate as the Train page shows it: asked for anew as the form changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget

from runner_gui.model.form import FormState
from runner_gui.pages.form_panel import FormPanel
from runner_gui.services.data_report import DataReporter
from runner_gui.services.estimator import Estimator
from runner_gui.services.pipeline import Pipeline
from runner_gui.widgets.editors import ChoiceEditor
from trainer.contract.params import PRECISIONS, check


class TrainEstimate(QObject):
    """Links the form, the child process that estimates, and the panel."""

    def __init__(
        self,
        page: QWidget,
        panel: FormPanel,
        state: FormState,
        reporter: DataReporter,
        pipeline: Pipeline,
    ) -> None:
        super().__init__(page)
        self._panel, self._state, self._pipeline = panel, state, pipeline
        self.estimator = Estimator(self)
        self.estimator.finished.connect(self._on_estimate)
        self.estimator.failed.connect(lambda _: panel.estimate.clear())
        panel.estimate.changes_chosen.connect(self._take)
        state.value_changed.connect(self.refresh)
        reporter.finished.connect(self._on_report)
        pipeline.busy_changed.connect(self.refresh)

    def refresh(self) -> None:
        """Ask again. While something is under way its memory is not free, so nothing is asked."""
        values = {**self._state.values, "data": self._state.values["data"] or "-"}
        if self._pipeline.is_busy or not values["base_model"] or check(values)[0] is None:
            self.estimator.cancel()
            self._panel.estimate.clear()
        else:
            self.estimator.ask(values)

    def close(self) -> None:
        """End the process with the window."""
        self.estimator.close()

    def _on_estimate(self, found: Mapping[str, Any]) -> None:
        self._panel.estimate.show_estimate(found)
        editor = self._panel.form.rows["precision"].editor
        assert isinstance(editor, ChoiceEditor)
        editor.offer(PRECISIONS[found["device"]])

    def _on_report(self, report: Mapping[str, Any]) -> None:
        plan = report.get("plan")
        self._panel.estimate.show_total_steps(None if plan is None else plan["total_steps"])

    def _take(self, changes: Mapping[str, Any]) -> None:
        for name, value in changes.items():
            self._state.set(name, value)
