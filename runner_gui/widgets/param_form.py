"""The parameter form: a row for each parameter of the contract, bound to a FormState."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from runner_gui.i18n import has, language_changed, tr
from runner_gui.model.form import FormState
from runner_gui.widgets.controls import IconButton, IconLabel, label, restyle, row
from runner_gui.widgets.editors import Editor, make_editor
from runner_gui.widgets.problem_text import problem_line
from trainer.contract.errors import Problem
from trainer.contract.params import GROUPS, PARAMS, Param

EDITOR_WIDTH = 104


class ParamRow(QWidget):
    """Label, changed dot, reset, editor, unit, help and problems of one parameter."""

    def __init__(self, param: Param, editor: Editor, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.param, self.editor = param, editor
        self.name = label()
        self.name.setBuddy(editor.field)
        self.unit = label("unit")
        self.dot = IconLabel("dot", "accent_text", 10)
        self.reset = IconButton("reset", look="small", size=14)
        self.help = label("help", wrap=True)
        self.problem = label("red", wrap=True)
        for widget in (self.dot, self.reset):
            policy = widget.sizePolicy()
            policy.setRetainSizeWhenHidden(True)  # the row must not jump when a value changes
            widget.setSizePolicy(policy)
        self._lay_out()
        self.problem.hide()
        self.show_changed(False)

    def _lay_out(self) -> None:
        head = row(self.name, self.dot, self.reset, 1, spacing=2)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        if self.editor.wide:
            column.addLayout(head)
            column.addWidget(self.editor)
            column.addWidget(self.help)
        else:
            self.editor.setFixedWidth(EDITOR_WIDTH)
            texts = QVBoxLayout()
            texts.setSpacing(0)
            texts.addLayout(head)
            texts.addWidget(self.help)
            right = QVBoxLayout()
            right.setSpacing(2)
            right.addWidget(self.editor)
            right.addWidget(self.unit, 0, Qt.AlignmentFlag.AlignRight)
            right.addStretch(1)
            across = QHBoxLayout()
            across.setSpacing(12)
            across.addLayout(texts, 1)
            across.addLayout(right)
            column.addLayout(across)
        column.addWidget(self.problem)

    def retranslate(self) -> None:
        name = self.param.name
        help_text = tr(f"param.{name}.help")
        unit = tr(f"unit.{self.param.unit}") if self.param.unit else ""
        self.name.setText(tr(f"param.{name}.label"))
        self.help.setText(help_text)
        self.unit.setText(unit)
        self.unit.setVisible(bool(unit))
        self.reset.set_words(tr("form.reset", name=tr(f"param.{name}.label")))
        self.dot.setToolTip(tr("form.changed"))
        for widget in (self.editor, self.editor.field):
            widget.setAccessibleName(f"{tr(f'param.{name}.label')} {unit}".strip())
            widget.setAccessibleDescription(help_text)
        self.editor.retranslate()

    def show_changed(self, changed: bool) -> None:
        self.dot.setVisible(changed)
        self.reset.setVisible(changed)

    def show_problems(self, problems: list[Problem]) -> None:
        """The problems of this parameter: red ones stand in the way, amber ones are advice."""
        worst = min((p.severity for p in problems), key=["error", "warning", "advice"].index, default=None)
        tone = {None: "", "error": "error"}.get(worst, "advice")
        self.problem.setObjectName("red" if tone == "error" else "amber")
        restyle(self.problem, "tone", tone)
        restyle(self.editor.field, "tone", tone)
        mark = "✕ " if tone == "error" else "⚠ "
        self.problem.setText("\n".join(mark + self._sentence(p) for p in problems))
        self.problem.setVisible(bool(problems))

    def _sentence(self, problem: Problem) -> str:
        own = f"param.{self.param.name}.warn"
        return tr(own) if problem.severity == "advice" and has(own) else problem_line(problem)


class ParamForm(QScrollArea):
    """All rows, by group; Simple shows the basic ones.

    Args:
        state: the values; the form shows them and writes what is typed.
        suggestions: known paths of a path parameter, by its name.
    """

    def __init__(
        self,
        state: FormState,
        suggestions: Callable[[str], list[str]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("form")
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._state = state
        self._frozen: Mapping[str, Any] | None = None
        self._advanced = False
        self.rows: dict[str, ParamRow] = {}
        self.headings: dict[str, QLabel] = {}
        self._build(suggestions)
        state.value_changed.connect(self._on_value)
        state.problems_changed.connect(self._show_problems)
        language_changed.connect(self.retranslate)
        self.retranslate()
        self.show_all_values()
        self.set_advanced(False)

    def _build(self, suggestions: Callable[[str], list[str]]) -> None:
        body = QWidget()
        body.setObjectName("scroll_body")
        body.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 12, 8)
        column.setSpacing(12)
        for group in GROUPS:
            heading = label("group")
            heading.setContentsMargins(0, 8, 0, 0)
            self.headings[group] = heading
            column.addWidget(heading)
            for param in (p for p in PARAMS.values() if p.group == group):
                editor = make_editor(param, lambda name=param.name: suggestions(name))
                line = ParamRow(param, editor)
                self.rows[param.name] = line
                editor.edited.connect(lambda value, name=param.name: self._state.set(name, value))
                line.reset.clicked.connect(lambda _=False, name=param.name: self._state.reset(name))
                column.addWidget(line)
        column.addStretch(1)
        self.setWidget(body)

    @property
    def advanced(self) -> bool:
        return self._advanced

    def set_advanced(self, advanced: bool) -> None:
        """Show every parameter, or only the basic ones and those that something is said about."""
        self._advanced = advanced
        self._show_rows()

    def freeze(self, values: Mapping[str, Any] | None) -> None:
        """Show a run's own values and lock; None unlocks and shows the form's values again."""
        self._frozen = values
        for line in self.rows.values():
            line.editor.setEnabled(values is None)
        self.show_all_values()

    def show_all_values(self) -> None:
        """Show the form's values, or those of the run that it is frozen to."""
        for name in self.rows:
            self._on_value(name)
        self._show_problems()

    def reveal(self, name: str) -> None:
        """Scroll to a parameter and put the cursor into it."""
        line = self.rows[name]
        line.show()
        # The row gets its place when the layout is done, which is not now.
        QTimer.singleShot(0, self, lambda: self.ensureWidgetVisible(line, 0, 24))
        line.editor.setFocus(Qt.FocusReason.OtherFocusReason)

    def retranslate(self) -> None:
        for group, heading in self.headings.items():
            heading.setText(tr(f"group.{group}"))
        for line in self.rows.values():
            line.retranslate()
        self._show_problems()

    def _on_value(self, name: str) -> None:
        if self._frozen is None:
            value = self._state.values[name]
        else:
            value = self._frozen.get(name, PARAMS[name].default)
        self.rows[name].editor.show_value(value)
        self.rows[name].show_changed(self._frozen is None and self._state.is_changed(name))

    def _show_problems(self) -> None:
        for name, line in self.rows.items():
            line.show_problems([] if self._frozen is not None else self._state.problems.get(name, []))
        self._show_rows()

    def _show_rows(self) -> None:
        for name, line in self.rows.items():
            wrong = self._frozen is None and bool(self._state.problems.get(name))
            line.setVisible(self._advanced or line.param.level == "basic" or wrong)
        for group, heading in self.headings.items():
            rows = (line for line in self.rows.values() if line.param.group == group)
            heading.setVisible(any(not line.isHidden() for line in rows))
