"""What few people change about a merge: strength, kind of file, element type."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFormLayout, QLabel, QWidget

from runner_gui.i18n import tr
from runner_gui.widgets.controls import CalmComboBox, CalmDoubleSpinBox, label

SUFFIXES = (".pth", ".safetensors", ".gguf")
MAX_STRENGTH = 1.5
# In a .gguf the base's own type is fp16, and only there weights can be in 8 bits.
_DTYPES = {".gguf": ("fp16", "q8_0"), "": ("base", "bf16", "fp16", "fp32")}


class MergeOptions(QWidget):
    """Three fields.

    Signals:
        changed(): the kind of file is another one.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.strength = CalmDoubleSpinBox()
        self.strength.setRange(0.0, MAX_STRENGTH)
        self.strength.setSingleStep(0.05)
        self.strength.setValue(1.0)
        self.format = CalmComboBox()
        self.dtype = CalmComboBox()
        self.help = label("caption", wrap=True)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        for field in (self.strength, self.format, self.dtype):
            self._form.addRow(QLabel(), field)
        self._form.addRow(self.help)
        for suffix in SUFFIXES:
            self.format.addItem(suffix, suffix)
        self.format.currentIndexChanged.connect(self._on_format)
        self._on_format()
        self.retranslate()

    @property
    def suffix(self) -> str:
        """Of the file that is to be made."""
        return self.format.currentData()

    def flags(self) -> tuple[str, ...]:
        """For the trainer's `merge`; nothing for what stays as it is."""
        strength, dtype = self.strength.value(), self.dtype.currentData()
        flags = () if strength == 1.0 else (f"--strength={strength:g}",)
        return flags if dtype == "base" else (*flags, f"--dtype={dtype}")

    def retranslate(self) -> None:
        for field, key in ((self.strength, "strength"), (self.format, "format"), (self.dtype, "dtype")):
            shown = self._form.labelForField(field)
            assert isinstance(shown, QLabel)
            shown.setText(tr(f"merge.{key}_label"))
            shown.setBuddy(field)
        for index in range(self.dtype.count()):
            self.dtype.setItemText(index, _name(self.dtype.itemData(index)))
        self.help.setText(tr("merge.options_help"))

    def _on_format(self) -> None:
        self.dtype.clear()
        for dtype in _DTYPES.get(self.suffix, _DTYPES[""]):
            self.dtype.addItem(_name(dtype), dtype)
        self.changed.emit()


def _name(dtype: str) -> str:
    return tr("merge.dtype_base") if dtype == "base" else dtype.upper()
