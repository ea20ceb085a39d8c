"""The foot of the window: what computes, how busy it is, what is under way, and the messages."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QSizePolicy, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.services.system_monitor import Reading
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import ElidedLabel, IconLabel, button, label, row
from runner_gui.widgets.sparkline import Sparkline

HEIGHT = 30
_DEVICE_WIDTH = 180
METERS = ("cpu", "memory", "gpu", "vram")


class StatusStrip(QFrame):
    """One line of small things.

    Signals:
        work_pressed(), messages_pressed(): the button of what is under way, or that of the messages.
    """

    work_pressed = Signal()
    messages_pressed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("strip")
        self.setFixedHeight(HEIGHT)
        self.device = ElidedLabel()
        self.device.setObjectName("caption")
        self.device.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.device.setFixedWidth(_DEVICE_WIDTH)
        self.names: dict[str, QLabel] = {name: label("caption") for name in METERS}
        self.values: dict[str, QLabel] = {name: label("caption") for name in METERS}
        self.lines = {name: Sparkline() for name in METERS}
        self.work: QPushButton = button("link")
        self.messages: QPushButton = button("link")
        self._dot = IconLabel("dot", "accent_text", 10)
        self._reading: Reading | None = None
        self._work, self._unread = "", 0
        line = row(self.device, spacing=6)
        line.setContentsMargins(16, 0, 8, 0)
        for name in METERS:
            line.addSpacing(8)
            for part in (self.names[name], self.values[name], self.lines[name]):
                line.addWidget(part)
        line.addStretch(1)
        for part in (self._dot, self.work, self.messages):
            line.addWidget(part)
        self.setLayout(line)
        self.work.clicked.connect(self.work_pressed)
        self.messages.clicked.connect(self.messages_pressed)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_reading(self, reading: Reading) -> None:
        """Show how busy the computer is, and let the curves go on."""
        self._reading = reading
        self.lines["cpu"].append(reading.cpu_percent / 100)
        self.lines["memory"].append(reading.memory_used_bytes / max(1, reading.memory_total_bytes))
        if (gpu := reading.gpu) is not None:
            self.lines["gpu"].append((gpu.percent or 0.0) / 100)
            self.lines["vram"].append(gpu.used_bytes / max(1, gpu.total_bytes))
        self.retranslate()

    def show_work(self, words: str) -> None:
        """What is under way; "" for nothing."""
        if words != self._work:
            self._work = words
            self.retranslate()

    def show_unread(self, count: int) -> None:
        """How many messages nobody has looked at."""
        self._unread = count
        self.retranslate()

    def retranslate(self) -> None:
        reading = self._reading
        gpu = None if reading is None else reading.gpu
        self.device.set_full_text(tr("strip.cpu_only") if gpu is None else gpu.name)
        values = dict.fromkeys(METERS, fmt.NONE)
        if reading is not None:
            values["cpu"] = fmt.percent(reading.cpu_percent)
            values["memory"] = fmt.part(reading.memory_used_bytes, reading.memory_total_bytes)
        if gpu is not None:
            values["gpu"] = fmt.percent(gpu.percent)
            values["vram"] = fmt.part(gpu.used_bytes, gpu.total_bytes)
        for name in METERS:
            self.names[name].setText(tr(f"strip.{name}"))
            self.values[name].setText(values[name])
            self.lines[name].setAccessibleName(f"{tr(f'strip.{name}')} {values[name]}")
            for part in (self.names[name], self.values[name], self.lines[name]):
                part.setVisible(name in ("cpu", "memory") or gpu is not None)
        self.work.setText(self._work or tr("strip.idle"))
        self.work.setEnabled(bool(self._work))
        self._dot.setVisible(bool(self._work))
        key = "strip.unread" if self._unread else "strip.messages"
        self.messages.setText(tr(key, n=fmt.whole(self._unread)))
