"""The left side of the Train page: the form, how much of it is shown, and the one primary button."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.form import FormState
from runner_gui.model.readiness import Action
from runner_gui.widgets.controls import Card, button, label, restyle, row
from runner_gui.widgets.estimate_panel import EstimatePanel
from runner_gui.widgets.param_form import ParamForm
from runner_gui.widgets.preset_bar import PresetBar

WIDTH = 364


class FormPanel(Card):
    """A card with the form, its Simple/Advanced switch and the button.

    Signals:
        level_chosen(bool): Advanced (True) or Simple was chosen.
    """

    level_chosen = Signal(bool)

    def __init__(
        self,
        state: FormState,
        suggestions: Callable[[str], list[str]],
        parent: QWidget | None = None,
        *,
        advanced: bool = False,
    ) -> None:
        super().__init__(parent)
        self.setFixedWidth(WIDTH)
        self.form = ParamForm(state, suggestions)
        self.form.set_advanced(advanced)
        self.title = label("title")
        self.presets = PresetBar()
        self.simple, self.advanced = button("segment"), button("segment")
        self.simple.setProperty("place", "first")
        self.advanced.setProperty("place", "last")
        levels = QButtonGroup(self)
        for shown in (self.simple, self.advanced):
            shown.setCheckable(True)
            levels.addButton(shown)
        (self.advanced if advanced else self.simple).setChecked(True)
        self.locked, self.reason = label("caption", wrap=True), label("caption", wrap=True)
        self.primary = button("primary")
        self.estimate = EstimatePanel()
        self.prepare, self.enqueue, self.queue = button("link"), button("link"), button("link")
        self.locked.hide()
        self._lay_out()
        self.simple.clicked.connect(lambda: self._choose(False))
        self.advanced.clicked.connect(lambda: self._choose(True))
        self._action_key, self._reason_key, self._note_key = "train", "", ""
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _lay_out(self) -> None:
        self.body.setContentsMargins(16, 12, 4, 16)
        head = row(self.title, 1, self.simple, self.advanced, spacing=0)
        head.setContentsMargins(0, 0, 12, 0)
        foot = QVBoxLayout()
        foot.setContentsMargins(0, 4, 12, 0)
        foot.setSpacing(6)
        foot.addWidget(self.estimate)
        foot.addWidget(self.reason)
        foot.addWidget(self.primary)
        foot.addLayout(row(self.prepare, self.enqueue, 1, self.queue, spacing=0))
        self.body.addLayout(head)
        bar = row(self.presets)
        bar.setContentsMargins(0, 0, 12, 0)
        self.body.addLayout(bar)
        self.body.addWidget(self.locked)
        self.body.addWidget(self.form, 1)
        self.body.addLayout(foot)

    def show_action(self, key: str, action: Action) -> None:
        """What the button does next; where it cannot be pressed, why not."""
        self._action_key, self._reason_key = key, action.reason_key or ""
        self.primary.setEnabled(action.enabled)
        restyle(self.primary, "action", action.id)
        self.retranslate()

    def freeze(self, values: Mapping[str, Any] | None, note: str = "form.locked") -> None:
        """Lock the form on these values, or unlock it.

        Args:
            note: the catalogue key of what is said about it, "" for nothing.
        """
        self.form.freeze(values)
        self.presets.lock(values is not None)
        self._note_key = note
        self.locked.setVisible(bool(note))
        self.retranslate()

    def retranslate(self) -> None:
        self.title.setText(tr("form.title"))
        self.simple.setText(tr("form.simple"))
        self.advanced.setText(tr("form.advanced"))
        self.locked.setText(tr(self._note_key) if self._note_key else "")
        self.primary.setText(tr(f"primary.{self._action_key}"))
        self.reason.setText(tr(self._reason_key) if self._reason_key else "")
        self.reason.setVisible(bool(self._reason_key))

    def _choose(self, advanced: bool) -> None:
        self.form.set_advanced(advanced)
        self.level_chosen.emit(advanced)
