"""Addresses of the person's own for what is downloaded, and a proxy: tried before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QLabel, QLineEdit, QWidget

from runner_gui.i18n import tr
from runner_gui.services.background import Background
from runner_gui.widgets.controls import label
from runner_gui.widgets.dialogs import Sheet
from runner_gui.widgets.problem_text import problem_text
from wsl_bootstrap.codes import Code
from wsl_bootstrap.mirrors import CUSTOM, OFFICIAL, Mirror
from wsl_bootstrap.options import SetupOptions
from wsl_bootstrap.reach import PROXY, check

_OF_WINDOWS = ("system", "images")  # what only a distribution that we install needs


class SourcesDialog(Sheet):
    """Tests what was entered, in the background; what does not answer can be used nevertheless.

    Signals:
        chosen(object): the options that change, by name.
    """

    chosen = Signal(object)

    def __init__(self, options: SetupOptions, *, on_windows: bool, parent: QWidget | None = None) -> None:
        super().__init__("sources", parent)
        self.setMinimumWidth(560)
        self._options, self._on_windows = options, on_windows
        self._background = Background(self)
        self._wrong: Mapping[str, Code] = {}
        self._testing = False
        names = [entry.name for entry in fields(Mirror) if on_windows or entry.name not in _OF_WINDOWS]
        self.entries: dict[str, QLineEdit] = {}
        self.notes: dict[str, QLabel] = {}
        self._captions: dict[str, QLabel] = {}
        for name in (*names, PROXY):
            self._add_field(name, (options.proxy if name == PROXY else getattr(options.custom, name)) or "")
        self.cancel = self.add_button("dialog.cancel")
        self.anyway = self.add_button("sources.anyway")
        self.use = self.add_button("sources.use", main=True)
        self.cancel.clicked.connect(self.reject)
        self.anyway.clicked.connect(self._finish)
        self.use.clicked.connect(self.test)
        self.finished.connect(self._background.close)
        self.retranslate()
        self._show()

    def _add_field(self, name: str, value: str) -> None:
        caption, entry, note = label(), QLineEdit(value), label("red", wrap=True)
        caption.setBuddy(entry)
        entry.textEdited.connect(lambda _: self._forget(name))
        self.entries[name], self.notes[name], self._captions[name] = entry, note, caption
        for widget in (caption, entry, note):
            self.content.addWidget(widget)

    def test(self) -> None:
        """Ask every address that was entered; use them all if all answer."""
        self._testing, self._wrong = True, {}
        self._show()
        custom, proxy, elsewhere = self._custom(), self._text(PROXY), self._on_windows
        self._background.submit(lambda: check(custom, proxy, linux_elsewhere=elsewhere), self._take)

    def _take(self, outcome: dict[str, Code] | Exception) -> None:
        if isinstance(outcome, Exception):
            raise outcome
        self._testing, self._wrong = False, outcome
        self._show()
        if not outcome:
            self._finish()

    def _finish(self) -> None:
        custom = self._custom()
        mirror = self._options.mirror
        if custom != Mirror():
            mirror = CUSTOM
        elif mirror == CUSTOM:
            mirror = OFFICIAL
        self.chosen.emit({"custom": custom, "mirror": mirror, "proxy": self._text(PROXY)})
        self.accept()

    def _text(self, name: str) -> str | None:
        return self.entries[name].text().strip() or None

    def _custom(self) -> Mirror:
        entered: dict[str, Any] = {name: self._text(name) for name in self.entries if name != PROXY}
        return replace(self._options.custom, **entered)

    def _forget(self, name: str) -> None:
        self._wrong = {other: code for other, code in self._wrong.items() if other != name}
        self._show()

    def _show(self) -> None:
        for name, note in self.notes.items():
            code = self._wrong.get(name)
            if code is not None:
                note.setText(problem_text(code).why)
            note.setVisible(code is not None)
            self.entries[name].setEnabled(not self._testing)
        possible = all(code.id != "address_odd" for code in self._wrong.values())
        self.anyway.setVisible(bool(self._wrong) and possible)
        self.use.setEnabled(not self._testing)
        self.use.setText(tr("sources.testing" if self._testing else "sources.use"))
        QTimer.singleShot(0, self, self.fit)  # once what was hidden has given up its room

    def retranslate(self) -> None:
        super().retranslate()
        for name, entry in self.entries.items():
            self._captions[name].setText(tr(f"sources.{name}"))
            entry.setPlaceholderText(tr(f"sources.{name}.hint"))
            entry.setAccessibleName(tr(f"sources.{name}"))
