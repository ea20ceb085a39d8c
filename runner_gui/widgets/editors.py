"""One editor for each kind of parameter: show a value, say when the person changes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtGui import QAction, QStandardItemModel
from PySide6.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from runner_gui.i18n import tr
from runner_gui.widgets.controls import (
    CalmComboBox,
    CalmDoubleSpinBox,
    CalmSpinBox,
    IconButton,
    ScientificEdit,
)
from trainer.contract.params import Param

MAX_INT = 2**31 - 1


class Editor(QWidget):
    """Edits one parameter.

    Signals:
        edited(object): the person gave another value.
    """

    edited = Signal(object)
    wide = False  # whether the editor wants the whole width, under its label

    def __init__(self, param: Param, field: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.param = param
        self.field = field
        self.setFocusProxy(field)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(4)
        self._row.addWidget(field, 1)

    def show_value(self, value: Any) -> None:
        """Show a value without reporting it as an edit."""
        raise NotImplementedError

    def retranslate(self) -> None:
        """Show texts in the language in use."""


class IntEditor(Editor):
    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        self.box = CalmSpinBox()
        self.box.setRange(
            int(param.lo or 0), int(min(param.hi if param.hi is not None else MAX_INT, MAX_INT))
        )
        super().__init__(param, self.box, parent)
        self.box.valueChanged.connect(self.edited.emit)

    def show_value(self, value: Any) -> None:
        with QSignalBlocker(self.box):
            self.box.setValue(int(value))


class FloatEditor(Editor):
    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        self.box = CalmDoubleSpinBox()
        self.box.setDecimals(6)
        self.box.setSingleStep(0.01 if (param.hi or 1.0) <= 1.0 else 1.0)
        # An open bound is not itself allowed: the nearest number that the field can show is.
        low = (param.lo or 0.0) + (1e-6 if param.lo_open else 0.0)
        high = (param.hi if param.hi is not None else 1e9) - (1e-6 if param.hi_open else 0.0)
        self.box.setRange(low, high)
        super().__init__(param, self.box, parent)
        self.box.valueChanged.connect(self.edited.emit)

    def show_value(self, value: Any) -> None:
        with QSignalBlocker(self.box):
            self.box.setValue(float(value))


class RateEditor(Editor):
    """For rates. An unreadable text becomes NaN, which the check reports; the field never traps."""

    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        self.edit = ScientificEdit()
        super().__init__(param, self.edit, parent)
        self.edit.value_edited.connect(self.edited.emit)

    def show_value(self, value: Any) -> None:
        if math.isfinite(value):
            self.edit.set_value(float(value))


class BoolEditor(Editor):
    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        self.check = QCheckBox()
        super().__init__(param, self.check, parent)
        self.check.toggled.connect(self._on_toggled)

    def show_value(self, value: Any) -> None:
        with QSignalBlocker(self.check):
            self.check.setChecked(bool(value))
        self.retranslate()

    def retranslate(self) -> None:
        self.check.setText(tr("form.on") if self.check.isChecked() else tr("form.off"))

    def _on_toggled(self, checked: bool) -> None:
        self.retranslate()
        self.edited.emit(checked)


class ChoiceEditor(Editor):
    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        self.combo = CalmComboBox()
        for value in param.choices:
            self.combo.addItem("", value)
        super().__init__(param, self.combo, parent)
        self.wide = param.name in ("loss_mask", "lr_schedule", "method", "device", "strategy")
        self.combo.currentIndexChanged.connect(lambda index: self.edited.emit(self.combo.itemData(index)))

    def show_value(self, value: Any) -> None:
        with QSignalBlocker(self.combo):
            self.combo.setCurrentIndex(self.combo.findData(value))

    def offer(self, values: Collection[str]) -> None:
        """Let only these be chosen; what is chosen already stays."""
        model = self.combo.model()
        assert isinstance(model, QStandardItemModel)
        for index, value in enumerate(self.param.choices):
            model.item(index).setEnabled(value in values)

    def retranslate(self) -> None:
        for index, value in enumerate(self.param.choices):
            self.combo.setItemText(index, tr(f"choice.{self.param.name}.{value}"))


class MultiEditor(Editor):
    """Several of a list of choices, each with a tick."""

    wide = True

    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        self.checks = {value: QCheckBox() for value in param.choices}
        for check in self.checks.values():
            column.addWidget(check)
        super().__init__(param, box, parent)
        self.setFocusProxy(next(iter(self.checks.values())))
        for check in self.checks.values():
            check.toggled.connect(lambda _: self.edited.emit(self._value()))

    def show_value(self, value: Any) -> None:
        for name, check in self.checks.items():
            with QSignalBlocker(check):
                check.setChecked(name in value)

    def retranslate(self) -> None:
        for value, check in self.checks.items():
            check.setText(tr(f"choice.{self.param.name}.{value}"))

    def _value(self) -> tuple[str, ...]:
        return tuple(name for name, check in self.checks.items() if check.isChecked())


class LinesEditor(Editor):
    """A list of texts, one a line."""

    wide = True

    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        self.edit = QPlainTextEdit()
        self.edit.setFixedHeight(72)
        self.edit.setTabChangesFocus(True)
        super().__init__(param, self.edit, parent)
        self.edit.textChanged.connect(lambda: self.edited.emit(self._value()))

    def show_value(self, value: Any) -> None:
        if tuple(value) != self._value():
            with QSignalBlocker(self.edit):
                self.edit.setPlainText("\n".join(value))

    def _value(self) -> tuple[str, ...]:
        return tuple(line for line in self.edit.toPlainText().splitlines() if line.strip())


class TextEditor(Editor):
    wide = True

    def __init__(self, param: Param, parent: QWidget | None = None) -> None:
        self.edit = QLineEdit()
        super().__init__(param, self.edit, parent)
        self.edit.textEdited.connect(lambda text: self.edited.emit(text or None))

    def show_value(self, value: Any) -> None:
        if self.edit.text() != (value or ""):
            self.edit.setText(value or "")


class PathEditor(Editor):
    """A path that is typed, dropped, picked from known ones or browsed for.

    Args:
        suggestions: gives the known paths each time the menu opens.
    """

    wide = True

    def __init__(
        self, param: Param, suggestions: Callable[[], list[str]], parent: QWidget | None = None
    ) -> None:
        self.edit = QLineEdit()
        super().__init__(param, self.edit, parent)
        self._suggestions = suggestions
        self.choose = IconButton("folder")
        self._row.addWidget(self.choose)
        self.menu = QMenu(self)
        self.choose.clicked.connect(self.open_menu)
        self.edit.textEdited.connect(self._on_text)

    def show_value(self, value: Any) -> None:
        if self.edit.text() != (value or ""):
            self.edit.setText(value or "")
            self.edit.end(False)
        self.edit.setToolTip(value or "")

    def retranslate(self) -> None:
        name = tr(f"param.{self.param.name}.label")
        self.choose.set_words(tr("form.choose", name=name))
        self.edit.setPlaceholderText(
            tr("form.empty_world") if self.param.name == "vocab"
            else tr("form.empty_none") if self.param.optional else tr("form.not_chosen")
        )  # fmt: skip

    def open_menu(self) -> None:
        """The known paths, and the file dialogs."""
        self.menu.clear()
        for path in self._suggestions():
            action = QAction(_short(path), self.menu)
            action.setToolTip(path)
            action.triggered.connect(lambda _=False, chosen=path: self._take(chosen))
            self.menu.addAction(action)
        if not self.menu.isEmpty():
            self.menu.addSeparator()
        self.menu.addAction(tr("form.browse_file"), lambda: self.browse(folder=False))
        if self.param.name == "data":
            self.menu.addAction(tr("form.browse_folder"), lambda: self.browse(folder=True))
        if self.param.optional and self.edit.text():
            self.menu.addAction(tr("form.clear"), lambda: self._take(""))
        self.menu.popup(self.choose.mapToGlobal(self.choose.rect().bottomLeft()))

    def browse(self, *, folder: bool) -> QFileDialog:
        """Open a file dialog that fills the field."""
        start = Path(self.edit.text()).parent if self.edit.text() else Path.home()
        dialog = QFileDialog(
            self.window(), tr("form.choose", name=tr(f"param.{self.param.name}.label")), str(start)
        )
        dialog.setFileMode(QFileDialog.FileMode.Directory if folder else QFileDialog.FileMode.ExistingFile)
        if not folder and (patterns := _PATTERNS.get(self.param.name)):
            dialog.setNameFilters(
                [f"{tr('form.filter_fitting')} ({patterns})", f"{tr('form.filter_all')} (*)"]
            )
        dialog.fileSelected.connect(self._take)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    def _on_text(self, text: str) -> None:
        self.edited.emit(text.strip() or None)

    def _take(self, path: str) -> None:
        self.edit.setText(path)
        self.edit.end(False)
        self._on_text(path)


_PATTERNS = {
    "base_model": "*.pth *.safetensors",
    "lora_load": "*.pth *.safetensors",
    "data": "*.jsonl *.json *.csv *.tsv *.parquet *.txt *.md *.idx",
    "vocab": "*.txt *.json",
}


def _short(path: str) -> str:
    """A path's name with the folder it lies in, ampersands kept."""
    found = Path(path)
    return f"{found.name}  ({found.parent.name})".replace("&", "&&")


def make_editor(param: Param, suggestions: Callable[[], list[str]]) -> Editor:
    """The editor for a parameter's kind."""
    if param.kind == "path":
        return PathEditor(param, suggestions)
    if param.scientific:
        return RateEditor(param)
    kinds: dict[str, type[Editor]] = {
        "int": IntEditor, "float": FloatEditor, "bool": BoolEditor, "choice": ChoiceEditor,
        "multi": MultiEditor, "text": TextEditor, "lines": LinesEditor, "weighted_paths": LinesEditor,
    }  # fmt: skip
    return kinds[param.kind](param)  # type: ignore[call-arg]
