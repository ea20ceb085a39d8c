"""What a chat is set to: presets, system prompt, thinking, sampling."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPlainTextEdit, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.chat_presets import Preset, PresetStore
from runner_gui.model.conversation import ChatSettings
from runner_gui.widgets.chat_preset_bar import ChatPresetBar
from runner_gui.widgets.controls import CalmComboBox, label
from runner_gui.widgets.sampling_form import SamplingForm
from runner_gui.widgets.side_panel import SidePanel

WIDTH = 264
THINKING = ("free", "off", "on")


class ChatSettingsPanel(SidePanel):
    """Shows one chat's settings and changes them in place.

    Signals:
        changed(): something was changed by hand.
        preset_chosen(object): a Preset, whose turns may be what the chat begins with.
    """

    changed = Signal()
    preset_chosen = Signal(object)

    def __init__(self, store: PresetStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedWidth(WIDTH)
        self._settings = ChatSettings()
        self.presets = ChatPresetBar("chat", store)
        self.system = QPlainTextEdit()
        self.system.setObjectName("some_lines")
        self.thinking = CalmComboBox()
        self.form = SamplingForm()
        self._captions = {name: label("caption") for name in ("preset", "system", "thinking_choice")}
        widgets = {"preset": self.presets, "system": self.system, "thinking_choice": self.thinking}
        for name, widget in widgets.items():
            self._captions[name].setBuddy(widget)
            self.column.addWidget(self._captions[name])
            self.column.addWidget(widget)
        self.column.addWidget(self.form)
        self.column.addStretch(1)
        self._filling = False
        self.system.textChanged.connect(self._take)
        self.thinking.currentIndexChanged.connect(self._take)
        self.form.changed.connect(self.changed)
        self.presets.chosen.connect(self._on_preset)
        self.presets.wanted.connect(self._on_wanted)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_settings(self, settings: ChatSettings) -> None:
        """Show these, and change them from now on."""
        self._settings = settings
        self._filling = True
        self.system.setPlainText(settings.system)
        self.thinking.setCurrentIndex(THINKING.index(settings.thinking))
        self.form.show_sampling(settings.sampling)
        self._filling = False

    def _take(self) -> None:
        if not self._filling:
            self._settings.system = self.system.toPlainText()
            self._settings.thinking = THINKING[max(0, self.thinking.currentIndex())]
            self.changed.emit()

    def _on_preset(self, preset: Preset) -> None:
        for field in ("system", "thinking"):
            setattr(self._settings, field, getattr(preset.settings, field))
        self._settings.sampling = preset.settings.sampling.model_copy(deep=True)
        self.show_settings(self._settings)
        self.preset_chosen.emit(preset)
        self.changed.emit()

    def _on_wanted(self, name: str) -> None:
        settings = self._settings.model_copy(deep=True)
        self.presets.keep(Preset(kind="chat", name=name, settings=settings))

    def retranslate(self) -> None:
        self.title.set_full_text(tr("chat.settings"))
        for name, caption in self._captions.items():
            caption.setText(tr(f"chat.{name}"))
        self.system.setPlaceholderText(tr("chat.system_hint"))
        self.system.setAccessibleName(tr("chat.system"))
        self.thinking.setAccessibleName(tr("chat.thinking_choice"))
        self._filling = True
        index = max(0, self.thinking.currentIndex())
        self.thinking.clear()
        self.thinking.addItems([tr(f"chat.thinking_{name}") for name in THINKING])
        self.thinking.setCurrentIndex(index)
        self._filling = False
