"""The window: navigation at the left, pages at the right, what happens when it closes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QTimer
from PySide6.QtGui import QCloseEvent, QIcon, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language, language_changed, set_language, tr
from runner_gui.model import settings as settings_file
from runner_gui.model.problems import AnyProblem
from runner_gui.model.run_store import RunStore
from runner_gui.model.serving import ServeOptions
from runner_gui.model.settings import Settings
from runner_gui.model.shelf import ShelfEntry
from runner_gui.model.workspace import Workspace, assets_folder
from runner_gui.pages.about import AboutPage
from runner_gui.pages.config import ConfigPage
from runner_gui.pages.downloads import DownloadsPage
from runner_gui.pages.environment import EnvironmentPage
from runner_gui.pages.home import HomePage
from runner_gui.pages.models import ModelsPage
from runner_gui.pages.runs import RunsPage
from runner_gui.pages.settings import SettingsPage
from runner_gui.pages.talk_pages import TalkPages
from runner_gui.pages.train import TrainPage
from runner_gui.services.configurations import ConfigurationKeeper
from runner_gui.services.downloads import Downloads
from runner_gui.services.pipeline import Pipeline
from runner_gui.shell import Shell
from runner_gui.shortcuts import add_shortcuts
from runner_gui.widgets.banner import BannerAction, Notice
from runner_gui.widgets.controls import row
from runner_gui.widgets.dialogs import Question, close_dialog
from runner_gui.widgets.guide import Guide
from runner_gui.widgets.key_tips import KeyTips
from runner_gui.widgets.nav_rail import NavRail
from trainer.contract.errors import AppError
from trainer.contract.run_folder import RunFolder

LOG = logging.getLogger(__name__)
PAGES = (
    "home",
    "train",
    "runs",
    "models",
    "downloads",
    "config",
    "chat",
    "compare",
    "completion",
    "environment",
    "settings",
    "about",
)
FOOT = "settings"  # this page's entry and those behind it stand at the foot of the navigation
MAX_NUMBER = 9  # pages that Ctrl and a digit reach
SAVE_AFTER_MS = 500


class MainWindow(QMainWindow):
    """Owns the pipeline, the settings and the pages."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__()
        self.workspace, self.settings = workspace, settings
        workspace.use_models_folder(settings.models_folder)
        self.pipeline = Pipeline(workspace, settings, self)
        self.train_page = TrainPage(workspace, settings, self.pipeline)
        self.runs_store = RunStore(workspace.runs, self.pipeline.place.is_held)
        self.runs_page = RunsPage(self.runs_store)
        self.downloads = Downloads(workspace, self)
        self.models_page = ModelsPage(
            workspace, settings.interpreter, place=self.pipeline.place, keeper=self.downloads.keeper
        )
        self.downloads_page = DownloadsPage(workspace, self.downloads)
        self.talk_pages = TalkPages(workspace, self.pipeline.place, self)
        self.servers = self.talk_pages.servers
        self.configurations = ConfigurationKeeper(workspace, self.servers, self)
        self.config_page = ConfigPage(self.configurations)
        self.chat_page, self.compare_page = self.talk_pages.chat, self.talk_pages.compare
        self.completion_page = self.talk_pages.completion
        self.environment_page = EnvironmentPage(self.pipeline)
        self.settings_page, self.about_page = (
            SettingsPage(workspace, settings),
            AboutPage(lambda path: self.pipeline.write_report(path, language())),
        )
        self._closing = self._loaded = False
        self._close_question: Question | None = None
        self._guide: Guide | None = None
        self._save_timer = QTimer(self)
        self._save_timer.setSingleShot(True)
        self._save_timer.setInterval(SAVE_AFTER_MS)
        self._save_timer.timeout.connect(self.save_settings)
        self.setWindowIcon(QIcon(str(assets_folder() / "icons" / "app.svg")))
        self.setMinimumSize(1024, 700)
        self.resize(1280, 800)
        self.shell = Shell(self, self.pipeline, settings, PAGES, lambda: self.show_page("train"))
        self.home_page = HomePage(
            workspace,
            self.runs_store,
            self.pipeline,
            self.downloads,
            self.servers,
            self.shell.notifications,
        )
        self._lay_out()
        self._connect()
        self._add_shortcuts()
        self.retranslate()
        if settings.geometry:
            self.restoreGeometry(QByteArray.fromBase64(settings.geometry.encode()))

    def _lay_out(self) -> None:
        self.pages = QStackedWidget()
        keys = {name: f"Ctrl+{place}" for place, name in enumerate(PAGES, 1) if place <= MAX_NUMBER}
        self.rail = NavRail(PAGES, FOOT, keys, self.windowIcon())
        self.nav = self.rail.entries
        for name in PAGES:
            self.pages.addWidget(getattr(self, f"{name}_page"))
        body = QWidget()
        body.setObjectName("page")
        across = row(self.rail, self.pages, spacing=0)
        across.setStretch(1, 1)
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(across, 1)
        column.addWidget(self.shell.strip)
        self.setCentralWidget(body)
        self.show_page("train")

    def _connect(self) -> None:
        self.settings_page.language_chosen.connect(self._on_language)
        self.settings_page.theme_chosen.connect(self._on_theme)
        self.settings_page.models_folder_chosen.connect(self._on_models_folder)
        self.settings_page.changed.connect(self._save_timer.start)
        self.settings_page.sources_asked.connect(self.environment_page.ask_sources)
        self.settings_page.guide_asked.connect(self.show_guide)
        self.train_page.form_changed.connect(self._save_timer.start)
        self.train_page.runs.training_changed.connect(lambda _: self.retranslate())
        self.pipeline.run_ended.connect(self._on_run_ended)
        self.train_page.restart_requested.connect(self.environment_page.ask_restart)
        self.train_page.stepper.link_activated.connect(self._open_set_up)
        self.pipeline.busy_changed.connect(lambda _: self._save_timer.start())  # keeps what was asked for
        for page in (self.runs_page, self.models_page):
            self.pipeline.busy_changed.connect(page.set_busy)
        self.runs_page.open_requested.connect(self._open_run)
        self.runs_page.resume_requested.connect(self._resume_run)
        self.runs_page.clone_requested.connect(self._clone_run)
        for page in (self.models_page, self.downloads_page, self.home_page):
            page.train_requested.connect(lambda path: self._clone_run({"base_model": str(path)}))
        self.downloads.finished.connect(self._on_downloaded)
        self.downloads.failed.connect(lambda problem, name: self._tell_failed("downloads", problem, name))
        self.configurations.failed.connect(lambda problem, said: self._tell_failed("config", problem, said))
        home = self.home_page
        home.page_requested.connect(self.show_page)
        home.run_requested.connect(self._open_run)
        home.chat_requested.connect(self.open_chat)
        home.sample_requested.connect(self.try_sample)
        home.help_requested.connect(self.shell.show_help)
        self.models_page.continue_requested.connect(self._continue_from)
        self.models_page.chat_requested.connect(lambda path: self.open_chat(ServeOptions(path)))
        self.train_page.flow.chat_requested.connect(self._use)
        self.train_page.flow.compare_requested.connect(self.open_compare)
        self.config_page.chat_requested.connect(self.open_chat)
        self.config_page.shelf_wanted.connect(self.models_page.refresh)
        self.models_page.shelf.changed.connect(self.config_page.take_shelf)
        language_changed.connect(self.retranslate)
        self.rail.page_chosen.connect(self.show_page)

    def _add_shortcuts(self) -> None:
        for number, name in enumerate(PAGES[:MAX_NUMBER], 1):
            shortcut = QShortcut(QKeySequence(f"Ctrl+{number}"), self)
            shortcut.activated.connect(lambda chosen=name: self.show_page(chosen))
        actions = {
            "primary": lambda: self._ask_page("press_primary"),
            "save": lambda: self._ask_page("save"),
            "stop": self.train_page.ask_stop,
            "log": self._show_log,
            "recheck": self.pipeline.refresh,
            "help": self.show_help,
            "settings": lambda: self.show_page("settings"),
            "messages": self.shell.open_messages,
        }
        add_shortcuts(self, actions)
        self.key_tips = KeyTips(self)

    def _ask_page(self, what: str) -> None:
        """Have the page in front do something that it knows to do."""
        if (act := getattr(self.pages.currentWidget(), what, None)) is not None:
            act()

    def _open_set_up(self, node_id: str) -> None:
        self.show_page("environment")
        self.environment_page.show_node(node_id)

    def show_page(self, name: str) -> None:
        """Bring a page to the front."""
        if self._guide is not None and self._guide.isVisible():
            self._guide.finish()  # what it points at is gone
        self.rail.show_page(name)
        self.pages.setCurrentIndex(PAGES.index(name))
        self.retranslate()

    def show_help(self) -> None:
        """Open the manual at the page in front."""
        self.shell.show_help(PAGES[self.pages.currentIndex()])

    def open_compare(self, left: ServeOptions, right: ServeOptions) -> None:
        """Load two models and show the page that asks both."""
        self.show_page("compare")
        self.compare_page.load(left, right)

    def open_chat(self, options: ServeOptions) -> None:
        """Load a model and show the page to talk to it."""
        self.show_page("chat")
        self.talk_pages.open_model(options)

    def _use(self, options: ServeOptions) -> None:
        """Talk to a model; a merged one gets a configuration of its own, which runs it."""
        merged = options.adapter is None
        self.open_chat(self.configurations.use(options.model) if merged else options)

    def try_sample(self) -> None:
        """Train on the bundled model and data, as they come."""
        page = self.train_page
        self.show_page("train")
        if not self.pipeline.is_busy:
            page.take_params({})
            page.form_state.load(self.workspace.demo_params())
            page.press_primary()

    def _on_downloaded(self, path: Path) -> None:
        self.models_page.refresh()
        if self.pages.currentWidget() is not self.downloads_page:
            show = BannerAction("home.open", lambda: self.show_page("models"), main=True)
            self.shell.tell(Notice("success", "download_ended", {"name": path.name}, actions=(show,)))

    def _tell_failed(self, page: str, problem: AnyProblem, details: str) -> None:
        """Tell of a failure, unless the page that shows it is in front."""
        if PAGES[self.pages.currentIndex()] != page:
            show = BannerAction("home.open", lambda: self.show_page(page), main=True)
            self.shell.tell(Notice("error", problem=problem, details=details, actions=(show,)))

    def save_settings(self) -> None:
        """Remember the form, the choices and the window's place."""
        state = self.train_page.form_state
        self.settings.last_params = {
            name: value for name, value in state.values.items() if state.is_changed(name)
        }
        self.settings.geometry = bytes(self.saveGeometry().toBase64().data()).decode()
        try:
            settings_file.save(self.settings, self.workspace.settings_file)
        except AppError as error:
            LOG.warning("the settings were not saved: %s", error)
            self.train_page.banner.show_notice(Notice("warning", problem=error.problem))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._loaded:
            self._loaded = True
            QTimer.singleShot(0, self, self._load)
            QTimer.singleShot(0, self, self.downloads.load)

    def _load(self) -> None:
        self.train_page.load()
        if not self.settings.guide_seen and not self.settings.asked_for:  # who has begun needs no beginning
            self.show_guide()

    def show_guide(self) -> None:
        """Lead through the first run, from its first step."""
        self.show_page("train")
        if self._guide is None:
            form, panel = self.train_page.form, self.train_page.panel
            rows = [lambda name=name: form.rows[name] for name in ("base_model", "data")]
            self._guide = Guide(self, (*rows, lambda: panel.primary, lambda: self.nav["chat"]))
            self._guide.finished.connect(self._on_guide_finished)
        self._guide.go(0)

    def _on_guide_finished(self) -> None:
        self.settings.guide_seen = True
        self._save_timer.start()

    def closeEvent(self, event: QCloseEvent) -> None:
        if self.pipeline.is_training and not self._closing:
            event.ignore()
            self.ask_close()
            return
        self._shut_down()
        super().closeEvent(event)

    def ask_close(self) -> Question:
        """Ask what becomes of the training; the answer closes the window or does not."""
        if self._close_question is None:
            dialog = close_dialog(self)
            dialog.answered.connect(self._on_close_answer)
            dialog.finished.connect(dialog.deleteLater)
            self._close_question = dialog
            dialog.open()
        return self._close_question

    def _on_close_answer(self, answer: str) -> None:
        self._close_question = None
        if answer == "background":
            self._closing = True
            self.pipeline.detach()
            self.close()
        elif answer == "save":
            self._closing = True
            self.pipeline.stop(save=True)
            if not self.pipeline.is_training:
                self.close()

    def _on_run_ended(self, _status: str) -> None:
        if self._closing:
            QTimer.singleShot(0, self, self.close)

    def _shut_down(self) -> None:
        self._closing = True
        self._save_timer.stop()
        self.save_settings()
        self.shell.close()
        self.train_page.queue.close()
        self.configurations.close()
        self.talk_pages.close()
        self.train_page.reporter.close()
        self.train_page.estimate.close()
        self.train_page.run_view.close_files()
        self.settings_page.close_files()
        self.about_page.close_files()
        self.runs_page.close_files()
        self.models_page.close_files()
        self.downloads.close()
        self.home_page.close_files()
        self.environment_page.close_shell()
        self.pipeline.close()

    def _open_run(self, folder: RunFolder) -> None:
        self.show_page("train")
        self.train_page.runs.open(folder)

    def _resume_run(self, folder: RunFolder) -> None:
        self.show_page("train")
        self.train_page.runs.resume(folder)

    def _clone_run(self, params: Mapping[str, Any]) -> None:
        self.show_page("train")
        self.train_page.take_params(params)

    def _continue_from(self, adapter: ShelfEntry) -> None:
        params = {"lora_load": str(adapter.path)}
        base = adapter.origin[0] if adapter.origin else ""
        same = (path for path in self.workspace.base_models() if path.name == base)
        if (found := next(same, None)) is not None:
            params["base_model"] = str(found)
        self._clone_run(params)

    def _show_log(self) -> None:
        self.show_page("train")
        self.train_page.show_log()

    def _on_language(self, choice: str) -> None:
        self.settings.language = choice  # type: ignore[assignment]
        set_language(choice)
        self._save_timer.start()

    def _on_theme(self, choice: str) -> None:
        self.settings.theme = choice  # type: ignore[assignment]
        theme.theme.apply(choice)  # type: ignore[arg-type]
        self._save_timer.start()

    def _on_models_folder(self, folder: str) -> None:
        self.settings.models_folder = folder
        self._save_timer.start()

    def retranslate(self) -> None:
        current = PAGES[self.pages.currentIndex()]
        self.setWindowTitle(f"{tr(f'page.{current}')} – {tr('app.name')}")
