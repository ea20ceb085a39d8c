"""Home: what runs, what there was lately, and the quickest way to a model of one's own."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QScrollArea, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.history import HistoryRow
from runner_gui.model.run_store import RunStore
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.services.downloads import Downloads
from runner_gui.services.model_servers import ModelServers
from runner_gui.services.overview import Overview
from runner_gui.services.pipeline import Pipeline
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import notice_words
from runner_gui.widgets.controls import Card, button, label, row
from runner_gui.widgets.line_list import Line, LineList
from runner_gui.widgets.notifications import Notifications
from runner_gui.widgets.transfer_list import progress_words

REFRESH_MS = 500
NEWS = 5
CHAPTERS = ("train", "models", "downloads", "config", "chat", "keys")


class HomePage(QWidget):
    """Six cards.

    Signals:
        page_requested(str): another page is to come to the front.
        run_requested(object): a RunFolder to show. chat_requested(object): ServeOptions.
        train_requested(object): the path of a base model.
        sample_requested(): train on the sample, now.
        help_requested(str): a chapter of the manual.
    """

    page_requested = Signal(str)
    run_requested = Signal(object)
    chat_requested = Signal(object)
    train_requested = Signal(object)
    sample_requested = Signal()
    help_requested = Signal(str)

    def __init__(
        self,
        workspace: Workspace,
        store: RunStore,
        pipeline: Pipeline,
        downloads: Downloads,
        servers: ModelServers,
        notifications: Notifications,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self._pipeline, self._downloads, self._servers = pipeline, downloads, servers
        self._notifications = notifications
        self.overview = Overview(workspace, store, self)
        self.heading, self.sentence = label("heading"), label("muted", wrap=True)
        self.start, self.start_title, self.start_words = Card(), label("title"), label("muted", wrap=True)
        self.sample = button("primary")
        self.sample.setVisible(workspace.demo_model() is not None and workspace.demo_data() is not None)
        self.own, self.get = button(), button()
        self.now = LineList("home.now", "home.now_none")
        self.runs = LineList("home.runs", "home.runs_none")
        self.models = LineList("home.models", "home.models_none")
        self.news = LineList("home.news", "home.news_none")
        self.manual = LineList("home.manual", "home.manual_none")
        self._timer = QTimer(self, interval=REFRESH_MS)
        self._lay_out()
        self._connect()
        self.retranslate()

    def _lay_out(self) -> None:
        body = self.start.body
        body.addWidget(self.start_title)
        body.addWidget(self.start_words)
        body.addWidget(self.sample)
        body.addLayout(row(self.own, self.get))
        body.addStretch(1)
        grid = QGridLayout()
        grid.setSpacing(12)
        for place, card in enumerate((self.start, self.now, self.runs, self.models, self.news, self.manual)):
            grid.addWidget(card, place // 2, place % 2)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        inside = QWidget()
        inside.setObjectName("scroll_body")
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(grid)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(inside)
        page = QVBoxLayout(self)
        page.setContentsMargins(16, 16, 16, 16)
        page.setSpacing(8)
        page.addWidget(self.heading)
        page.addWidget(self.sentence)
        page.addWidget(scroll, 1)

    def _connect(self) -> None:
        self.sample.clicked.connect(self.sample_requested)
        self.own.clicked.connect(lambda: self.page_requested.emit("train"))
        self.get.clicked.connect(lambda: self.page_requested.emit("downloads"))
        self.overview.changed.connect(self._show_recent)
        self._pipeline.busy_changed.connect(self._on_busy)
        self._downloads.finished.connect(lambda _: self.overview.look())
        self._notifications.told.connect(lambda _: self._show_news())
        self._timer.timeout.connect(self._show_now)
        language_changed.connect(self.retranslate)

    def press_primary(self) -> None:
        """Try it with the sample."""
        if self.sample.isEnabled() and self.sample.isVisible():
            self.sample.click()

    def close_files(self) -> None:
        self._timer.stop()
        self.overview.close()

    # What is shown

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.overview.look()
        self._timer.start()
        self._show_now()
        self._show_news()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()

    def _on_busy(self, busy: bool) -> None:
        self._show_now()
        if not busy:
            self.overview.look()

    def _show_now(self) -> None:
        busy = self._pipeline.is_busy
        self.sample.setEnabled(not busy)
        self.sample.setToolTip(tr("home.busy") if busy else "")
        self.now.show_lines([*self._work(), *self._models_loaded(), *self._transfers()])

    def _work(self) -> list[Line]:
        if not self._pipeline.is_busy:
            return []
        act = (("home.open", lambda: self.page_requested.emit("train")),)
        folder = self._pipeline.run_folder
        working = [v for v in self._pipeline.steps if v.state in ("applying", "verifying", "probing")]
        step = working[-1] if working else None
        facts = tr(f"step.{step.id}.name") if step else tr("strip.working")
        if step is not None and step.total:
            facts = f"{facts} · {round(100 * step.done / step.total)} %"
        training = self._pipeline.is_training and folder is not None
        return [Line(folder.run_id if training and folder else tr("page.train"), facts, act)]

    def _models_loaded(self) -> list[Line]:
        lines = []
        for server in self._servers.running():
            options = server.options
            if options is None:
                continue
            facts = (
                tr(f"config.is_{server.state}") if not server.is_ready else f"{server.url} · {server.device}"
            )
            actions = (
                ("page.chat", lambda: self.page_requested.emit("chat")),
                ("page.config", lambda: self.page_requested.emit("config")),
            )
            lines.append(Line(server.name or options.model.stem, facts, actions))
        return lines

    def _transfers(self) -> list[Line]:
        act = (("home.open", lambda: self.page_requested.emit("downloads")),)
        return [Line(one.name, progress_words(one), act) for one in self._downloads.transfers]

    def _show_recent(self) -> None:
        recent = self.overview.recent
        self.runs.show_lines([self._run_line(one) for one in recent.runs])
        lines = []
        for model in recent.models:
            facts = f"{fmt.size(model.size_bytes)} · {fmt.moment(model.modified_ts)}"
            lines.append(
                Line(
                    model.path.name,
                    facts,
                    (
                        ("page.chat", lambda path=model.path: self._chat(path)),
                        ("page.train", lambda path=model.path: self.train_requested.emit(path)),
                    ),
                )
            )
        self.models.show_lines(lines)

    def _run_line(self, one: HistoryRow) -> Line:
        facts = [tr(f"status.{one.info.status}"), fmt.moment(one.info.record.created_ts)]
        if one.loss is not None:
            facts.append(tr("home.loss", loss=fmt.loss(one.loss)))
        folder = one.info.folder
        return Line(one.name, " · ".join(facts), (("home.open", lambda: self.run_requested.emit(folder)),))

    def _chat(self, path: Path) -> None:
        self.chat_requested.emit(ServeOptions(path))

    def _show_news(self) -> None:
        messages = list(self._notifications.messages)[:NEWS]
        lines = []
        for message in messages:
            title, body = notice_words(message.notice)
            actions = tuple((action.key, action.run) for action in message.notice.actions[:1])
            lines.append(Line(title, f"{fmt.moment(message.ts)} · {body}", actions))
        self.news.show_lines(lines)

    def _show_manual(self) -> None:
        def line(name: str) -> Line:
            act = (("home.read", lambda: self.help_requested.emit(name)),)
            return Line(tr(f"home.chapter_{name}"), actions=act)

        self.manual.show_lines([line(name) for name in CHAPTERS])

    def retranslate(self) -> None:
        self.heading.setText(tr("page.home"))
        self.sentence.setText(tr("home.sentence"))
        self.start_title.setText(tr("home.start"))
        self.start_words.setText(tr("home.start_words"))
        self.sample.setText(tr("home.sample"))
        self.own.setText(tr("home.own"))
        self.get.setText(tr("home.get"))
        for card in (self.now, self.runs, self.models, self.news, self.manual):
            card.retranslate()
        self._show_manual()
        self._show_now()
        self._show_recent()
        self._show_news()
