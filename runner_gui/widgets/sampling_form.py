"""The fields of how answers are drawn."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QLineEdit, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.sampling import BOUNDS, Sampling
from runner_gui.widgets.controls import CalmDoubleSpinBox, CalmSpinBox, label

_WHOLE = ("max_tokens", "top_k")
_STEPS = {"max_tokens": 100, "top_k": 1, "penalty_decay": 0.001}
MAX_SEED = 2**31 - 1
STOP_EXAMPLE = r"\n\nUser: 261"


class SamplingForm(QWidget):
    """Shows one `Sampling` and changes it in place.

    Signals:
        changed(): a field was changed by hand.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sampling = Sampling()
        self._filling = False
        self.fields: dict[str, CalmSpinBox | CalmDoubleSpinBox] = {}
        self.seed, self.stop = QLineEdit(), QLineEdit()
        self._labels: dict[str, QLabel] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(6)
        for place, name in enumerate((*BOUNDS, "seed", "stop")):
            caption = label("caption")
            field = self._field(name)
            caption.setBuddy(field)
            self._labels[name] = caption
            if name == "stop":
                grid.addWidget(caption, place, 0, 1, 2)
                grid.addWidget(field, place + 1, 0, 1, 2)
            else:
                grid.addWidget(caption, place, 0)
                grid.addWidget(field, place, 1)
        grid.setColumnStretch(0, 1)
        for line in (self.seed, self.stop):
            line.textEdited.connect(self._take)
        language_changed.connect(self.retranslate)
        self.retranslate()
        self.show_sampling(self._sampling)

    def show_sampling(self, sampling: Sampling) -> None:
        """Show this one, and change it from now on."""
        self._sampling = sampling
        self._filling = True
        for name, field in self.fields.items():
            field.setValue(getattr(sampling, name))
        self.seed.setText("" if sampling.seed is None else str(sampling.seed))
        self.stop.setText(" ".join(_shown(text) for text in sampling.stop))
        self._filling = False

    def _field(self, name: str) -> QWidget:
        if name in ("seed", "stop"):
            field = self.seed if name == "seed" else self.stop
            field.setFixedWidth(96) if name == "seed" else None
            return field
        box = CalmSpinBox() if name in _WHOLE else CalmDoubleSpinBox()
        least, most = BOUNDS[name]
        if isinstance(box, CalmDoubleSpinBox):
            box.setDecimals(3)
            box.setRange(least, most)
        else:
            box.setRange(int(least), int(most))
        box.setSingleStep(_STEPS.get(name, 0.1))  # type: ignore[arg-type]
        box.setFixedWidth(96)
        box.valueChanged.connect(self._take)
        self.fields[name] = box
        return box

    def _take(self) -> None:
        if self._filling:
            return
        for name, field in self.fields.items():
            setattr(self._sampling, name, field.value())
        seed = self.seed.text().strip()
        self._sampling.seed = min(int(seed), MAX_SEED) if seed.isdecimal() else None
        self._sampling.stop = [_meant(text) for text in self.stop.text().split()]
        self.changed.emit()

    def retranslate(self) -> None:
        for name, caption in self._labels.items():
            words = tr(f"sampling.{name}")
            caption.setText(words)
            field: QWidget = self.fields.get(name) or (self.seed if name == "seed" else self.stop)
            field.setAccessibleName(words)
            field.setToolTip(tr(f"sampling.{name}_help"))
        self.seed.setPlaceholderText(tr("sampling.any_seed"))
        self.stop.setPlaceholderText(STOP_EXAMPLE)


def _shown(text: str) -> str:
    """A stop item on one line, without the blanks that part it from the next."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace(" ", "\\s")


def _meant(shown: str) -> str:
    out, letters = "", iter(shown)
    for letter in letters:
        if letter == "\\":
            letter = next(letters, "\\")
            out += {"n": "\n", "t": "\t", "s": " "}.get(letter, letter)
        else:
            out += letter
    return out
