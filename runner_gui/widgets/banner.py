"""A strip that says what happened and what to do about it, with the buttons that do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import IconButton, IconLabel, button, label, restyle
from runner_gui.widgets.problem_text import problem_text
from trainer.contract.errors import Problem
from wsl_bootstrap.codes import Code

Kind = Literal["error", "warning", "success", "info"]
_ICONS = {
    "error": ("error", "red"),
    "warning": ("warning", "amber"),
    "success": ("check", "green"),
    "info": ("about", "accent_text"),
}


@dataclass(frozen=True, slots=True)
class BannerAction:
    """A button of a banner: its label's key, what it does, whether it is the advised one."""

    key: str
    run: Callable[[], object]
    main: bool = False


@dataclass(frozen=True)
class Notice:
    """What a banner says: either a problem of the trainer's, or a sentence by key."""

    kind: Kind
    key: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem | Code | None = None
    details: str = ""
    actions: Sequence[BannerAction] = ()


def notice_words(notice: Notice) -> tuple[str, str]:
    """Title and body of a notice in the language in use."""
    if notice.problem is not None:
        words = problem_text(notice.problem)
        return words.title, f"{words.why} {words.fix}".strip()
    return tr(f"{notice.key}.title", **notice.args), tr(f"{notice.key}.body", **notice.args)


class Banner(QFrame):
    """Shows one notice at a time; hidden while there is none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("banner")
        self._notice: Notice | None = None
        self.icon = IconLabel("about", "accent_text", 18)
        self.title = label("step_name", wrap=True)
        self.body = label(wrap=True)
        for words in (self.title, self.body):
            words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.close_button = IconButton("cross", look="small", size=14)
        self.details_button = button("link")
        self.copy_button = button("link")
        self.details = QPlainTextEdit()
        self.details.setObjectName("log")
        self.details.setReadOnly(True)
        self.details.setFixedHeight(120)
        self.buttons: list[QPushButton] = []
        self._foot = QHBoxLayout()
        self._foot.setSpacing(8)
        self._lay_out()
        self.close_button.clicked.connect(self.dismiss)
        self.details_button.clicked.connect(self._toggle_details)
        self.copy_button.clicked.connect(self._copy)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self.retranslate)
        self.hide()

    def _lay_out(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self.title)
        words.addWidget(self.body)
        words.addLayout(self._foot)
        words.addWidget(self.details)
        across = QHBoxLayout(self)
        across.setContentsMargins(12, 10, 8, 10)
        across.setSpacing(10)
        across.addWidget(self.icon, 0, Qt.AlignmentFlag.AlignTop)
        across.addLayout(words, 1)
        across.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self._foot.addWidget(self.details_button)
        self._foot.addWidget(self.copy_button)
        self._foot.addStretch(1)

    @property
    def notice(self) -> Notice | None:
        return self._notice

    def show_notice(self, notice: Notice) -> None:
        """Show this in place of what was shown."""
        self._notice = notice
        for old in self.buttons:
            old.hide()
            old.deleteLater()
        self.buttons = []
        for place, action in enumerate(notice.actions):
            new = button("confirm" if action.main else "")
            new.setDefault(action.main)
            new.setProperty("key", action.key)
            new.clicked.connect(lambda _=False, run=action.run: run())
            self.buttons.append(new)
            self._foot.insertWidget(place, new)
        self.details.setPlainText(notice.details)
        self.details.hide()
        restyle(self, "kind", notice.kind)
        self.icon.set_icon(*_ICONS[notice.kind])
        self.retranslate()
        self.show()

    def dismiss(self) -> None:
        self._notice = None
        self.hide()

    def retranslate(self) -> None:
        notice = self._notice
        self.close_button.set_words(tr("banner.close"))
        self.copy_button.setText(tr("banner.copy"))
        self.details_button.setText(
            tr("banner.hide_details" if not self.details.isHidden() else "banner.details")
        )
        if notice is None:
            return
        title, body = notice_words(notice)
        self.title.setText(title)
        self.body.setText(body)
        for shown in self.buttons:
            shown.setText(tr(str(shown.property("key"))))
        has_details = bool(notice.details)
        self.details_button.setVisible(has_details)
        self.copy_button.setVisible(has_details and not self.details.isHidden())
        self.setAccessibleName(self.title.text())
        self.setAccessibleDescription(self.body.text())

    def _toggle_details(self) -> None:
        self.details.setVisible(self.details.isHidden())
        self.retranslate()

    def _copy(self) -> None:
        text = f"{self.title.text()}\n{self.body.text()}\n\n{self.details.toPlainText()}"
        QGuiApplication.clipboard().setText(text)
