"""The fields of one configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.configuration import PRECISIONS, Configuration, fits
from runner_gui.model.sampling import BOUNDS
from runner_gui.model.shelf import ShelfEntry
from runner_gui.model.workspace import MODEL_SUFFIXES
from runner_gui.widgets.controls import (
    CalmComboBox,
    CalmDoubleSpinBox,
    CalmSpinBox,
    IconButton,
    label,
    row,
)

FILES = ("model", "adapter", "state")
MODEL_FIELDS = ("name", *FILES, "alpha", "device", "precision")
SERVER_FIELDS = ("port", "exposed", "api_key")
_WHOLE = ("max_tokens", "top_k")
_DECIMALS, _STEPS = 3, {"max_tokens": 100.0, "top_k": 1.0, "penalty_decay": 0.001}


class ConfigForm(QWidget):
    """Shows a `Configuration` and changes it in place.

    Signals:
        edited(): a field other than the name was changed by hand.
        renamed(str): another name was given.
        key_wanted(): the configuration is to be reachable, and has no key yet.
    """

    edited = Signal()
    renamed = Signal(str)
    key_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._one = Configuration(name="-")
        self._shelf: list[ShelfEntry] = []
        self.fields: dict[str, QWidget] = {}
        self._labels: dict[str, QLabel] = {}
        self._groups = {name: label("title") for name in ("model", "server", "sampling")}
        self._browse: dict[str, IconButton] = {}
        self.note = label("amber", wrap=True)
        self.draw_key = IconButton("reset", look="flat")
        self._make_fields()
        self._lay_out()
        self._connect()
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _make_fields(self) -> None:
        self.name, self.api_key = QLineEdit(), QLineEdit()
        self.files = {name: CalmComboBox() for name in FILES}
        self.device, self.precision = CalmComboBox(), CalmComboBox()
        self.alpha, self.port = CalmDoubleSpinBox(), CalmSpinBox()
        self.alpha.setRange(0, 100_000)
        self.port.setRange(1, 65535)
        self.exposed = QCheckBox()
        for device in PRECISIONS:
            self.device.addItem("", device)
        self.fields = {
            "name": self.name, **self.files, "alpha": self.alpha, "device": self.device,
            "precision": self.precision, "port": self.port, "exposed": self.exposed, "api_key": self.api_key,
        }  # fmt: skip
        for name, (least, most) in BOUNDS.items():
            if name in _WHOLE:
                box: CalmSpinBox | CalmDoubleSpinBox = CalmSpinBox()
                box.setRange(int(least), int(most))
                box.setSingleStep(int(_STEPS[name]))
            else:
                box = CalmDoubleSpinBox()
                box.setDecimals(_DECIMALS)
                box.setRange(least, most)
                box.setSingleStep(_STEPS.get(name, 0.1))
            self.fields[name] = box

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 12, 0)
        column.setSpacing(8)
        for group, names in (("model", MODEL_FIELDS), ("server", SERVER_FIELDS), ("sampling", tuple(BOUNDS))):
            column.addWidget(self._groups[group])
            grid = QGridLayout()
            grid.setVerticalSpacing(6)
            grid.setHorizontalSpacing(12)
            grid.setColumnMinimumWidth(0, 116)
            grid.setColumnStretch(1, 1)
            for place, name in enumerate(names):
                caption = self._labels[name] = label()
                caption.setBuddy(self.fields[name])
                grid.addWidget(caption, place, 0)
                grid.addWidget(self._cell(name), place, 1)
            column.addLayout(grid)
            if group == "server":
                column.addWidget(self.note)
            column.addSpacing(12)
        column.addStretch(1)

    def _cell(self, name: str) -> QWidget:
        field = self.fields[name]
        if name not in (*FILES, "api_key"):
            return field
        beside = self.draw_key if name == "api_key" else IconButton("folder", look="flat")
        if name in FILES:
            self._browse[name] = beside
        cell = QWidget()
        line = row(field, beside, spacing=4)
        line.setStretch(0, 1)
        cell.setLayout(line)
        return cell

    def _connect(self) -> None:
        self.name.editingFinished.connect(lambda: self.renamed.emit(self.name.text()))
        self.api_key.textEdited.connect(lambda text: self._take("api_key", text))
        self.draw_key.clicked.connect(self.key_wanted)
        for name, box in self.files.items():
            box.activated.connect(lambda _, name=name: self._take(name, self.files[name].currentData()))
            self._browse[name].clicked.connect(lambda _=False, name=name: self._choose_file(name))
        self.device.activated.connect(lambda _: self._take_device(self.device.currentData()))
        self.precision.activated.connect(lambda _: self._take("precision", self.precision.currentData()))
        self.alpha.valueChanged.connect(lambda value: self._take("alpha", value or None))
        self.port.valueChanged.connect(lambda value: self._take("port", value))
        self.exposed.toggled.connect(self._take_exposed)
        for name in BOUNDS:
            self.fields[name].valueChanged.connect(  # type: ignore[attr-defined]
                lambda value, name=name: self._take_sampling(name, value)
            )

    # What is shown

    def show_configuration(self, one: Configuration, shelf: Sequence[ShelfEntry]) -> None:
        """Show this one, and change it from now on; the shelf is what there is to choose from."""
        self._one, self._shelf = one, list(shelf)
        blocked = [QSignalBlocker(field) for field in self.fields.values()]
        if not self.name.hasFocus():
            self.name.setText(one.name)
        if self.api_key.text() != one.api_key:
            self.api_key.setText(one.api_key)
        self._fill_files()
        self.device.setCurrentIndex(self.device.findData(one.device))
        self._fill_precisions()
        self.alpha.setValue(one.alpha or 0)
        self.port.setValue(one.port)
        self.exposed.setChecked(one.exposed)
        for name in BOUNDS:
            self.fields[name].setValue(getattr(one.sampling, name))  # type: ignore[attr-defined]
        del blocked
        self.alpha.setEnabled(bool(one.adapter))
        self.note.setText(tr("config.open_to_all"))
        self.note.setVisible(one.exposed and not one.api_key)

    def _fill_files(self) -> None:
        one = self._one
        model = next((e for e in self._shelf if str(e.path) == one.model), None)
        adapters = [entry for entry in self._shelf if fits(entry, model)]
        choices = {
            "model": [entry for entry in self._shelf if entry.is_model],
            "adapter": [entry for entry in adapters if not entry.is_state],
            "state": [entry for entry in adapters if entry.is_state],
        }
        for name, box in self.files.items():
            box.clear()
            if name != "model":
                box.addItem(tr("config.none"), "")
            for entry in choices[name]:
                box.addItem(entry.name, str(entry.path))
            chosen = getattr(one, name)
            if chosen and box.findData(chosen) < 0:
                box.addItem(Path(chosen).name, chosen)
            box.setCurrentIndex(box.findData(chosen))
            box.setToolTip(chosen)

    def _fill_precisions(self) -> None:
        self.precision.clear()
        for precision in PRECISIONS[self._one.device]:
            shown = tr("config.automatic") if precision == "auto" else precision
            self.precision.addItem(shown, precision)
        self.precision.setCurrentIndex(max(0, self.precision.findData(self._one.precision)))
        self.precision.setEnabled(self.precision.count() > 1)

    # What a person does

    def _take(self, name: str, value: Any) -> None:
        setattr(self._one, name, value)
        if name == "model":  # what was mounted on another model may not fit this one
            self._one.adapter = self._one.state = ""
        self._show_again()

    def _take_device(self, device: Any) -> None:
        self._one.device = device
        if self._one.precision not in PRECISIONS[device]:
            self._one.precision = "auto"
        self._show_again()

    def _take_exposed(self, on: bool) -> None:
        self._one.exposed = on
        if on and not self._one.api_key:
            self.key_wanted.emit()
        self._show_again()

    def _take_sampling(self, name: str, value: float) -> None:
        setattr(self._one.sampling, name, value)
        self.edited.emit()

    def _show_again(self) -> None:
        self.show_configuration(self._one, self._shelf)
        self.edited.emit()

    def _choose_file(self, name: str) -> None:
        pattern = " ".join(f"*{suffix}" for suffix in MODEL_SUFFIXES)
        start = str(Path(self._one.model).parent) if self._one.model else ""
        chosen, _ = QFileDialog.getOpenFileName(self.window(), tr(f"config.{name}"), start, pattern)
        if chosen:
            self._take(name, chosen)

    def retranslate(self) -> None:
        for group, title in self._groups.items():
            title.setText(tr(f"config.group_{group}"))
        for name, caption in self._labels.items():
            key = f"sampling.{name}" if name in BOUNDS else f"config.{name}"
            caption.setText(tr(key))
            self.fields[name].setAccessibleName(tr(key))
        for name, shown in self._browse.items():
            shown.set_words(tr("config.browse", what=tr(f"config.{name}")))
        self.draw_key.set_words(tr("config.draw_key"))
        self.exposed.setText(tr("config.exposed_yes"))
        self.api_key.setPlaceholderText(tr("config.no_key"))
        self.alpha.setSpecialValueText(tr("config.alpha_own"))
        for index in range(self.device.count()):
            device = self.device.itemData(index)
            self.device.setItemText(index, tr(f"config.device_{device}"))
        self.show_configuration(self._one, self._shelf)
