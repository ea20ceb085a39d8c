"""The Environment page: every step between this computer and training, and a terminal in the environment."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QTimer
from PySide6.QtGui import QGuiApplication, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from runner_gui.i18n import language, language_changed, tr
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.setup_follower import LAST_STEP
from runner_gui.services.step_views import NODES
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, Notice
from runner_gui.widgets.consent_dialog import ConsentDialog, total_costs
from runner_gui.widgets.controls import Card, button, label, row
from runner_gui.widgets.dialogs import Question
from runner_gui.widgets.setup_detail import SetupDetail
from runner_gui.widgets.setup_list import SetupList
from runner_gui.widgets.setup_menu import SetupMenu
from runner_gui.widgets.shell_view import ShellView
from runner_gui.widgets.sources_dialog import SourcesDialog
from trainer.contract.errors import Problem
from wsl_bootstrap.codes import Code
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan
from wsl_bootstrap.steps.distro import DistroPlan
from wsl_bootstrap.transitions import State

TABS = ("steps", "terminal")
LIST_WIDTH = 304
COPIED_MS = 2000
_AT_WORK = (State.APPLYING, State.VERIFYING)


class EnvironmentPage(QWidget):
    """Shows what the pipeline's set-up says, and asks it for more of it."""

    def __init__(self, pipeline: Pipeline, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.pipeline, self.setup = pipeline, pipeline.setup
        self.heading, self.verdict = label("heading"), label("muted", wrap=True)
        self.recheck, self.copy, self.options = button(), button(), button()
        self.menu = SetupMenu(pipeline.choices, self)
        self.options.setMenu(self.menu)
        self.primary = button("confirm")
        self.primary.setDefault(True)
        self.banner = Banner()
        self.list = SetupList(self.setup.statuses.values())
        self.detail = SetupDetail()
        self.shell = ShellView(self.setup.host, lambda: self.setup.folder)
        self.tabs: dict[str, QPushButton] = {}
        self.question: Question | None = None
        self.sources: SourcesDialog | None = None
        self._follows = True  # shows the step that matters, until the person chooses one
        self._copied = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._lay_out()
        self._connect()
        self.retranslate()
        self._show_step()

    def _lay_out(self) -> None:
        group = QButtonGroup(self)
        for name in TABS:
            tab = self.tabs[name] = button("tab")
            tab.setCheckable(True)
            tab.clicked.connect(lambda _=False, chosen=name: self.set_tab(chosen))
            group.addButton(tab)
        steps = Card(margin=8)
        steps.setFixedWidth(LIST_WIDTH)
        self._area = area = QScrollArea()
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidgetResizable(True)
        self.list.setObjectName("scroll_body")
        area.setWidget(self.list)
        steps.body.addWidget(area)
        across = QWidget()
        side_by_side = QHBoxLayout(across)
        side_by_side.setContentsMargins(0, 8, 0, 0)
        side_by_side.setSpacing(12)
        side_by_side.addWidget(steps)
        side_by_side.addWidget(self.detail, 1)
        self._pages = QStackedWidget()
        self._pages.addWidget(across)
        self._pages.addWidget(self.shell)
        column = QVBoxLayout(self)
        column.setContentsMargins(32, 24, 32, 24)
        column.setSpacing(8)
        column.addLayout(row(self.heading, 1, self.options, self.recheck, self.copy, self.primary))
        column.addWidget(self.verdict)
        column.addWidget(self.banner)
        column.addLayout(row(*self.tabs.values(), 1, spacing=4))
        column.addWidget(self._pages, 1)
        self.set_tab(TABS[0])

    def _connect(self) -> None:
        self.setup.status_changed.connect(self._on_status)
        self.setup.line_received.connect(self._on_line)
        self.pipeline.busy_changed.connect(lambda _: self._show())
        self.pipeline.consent_needed.connect(self._on_consent)
        self.pipeline.restart_needed.connect(lambda _: self.ask_restart())
        self.list.chosen.connect(self._on_chosen)
        self.detail.action_requested.connect(self._on_action)
        self.recheck.clicked.connect(self.pipeline.refresh)
        self.copy.clicked.connect(self.copy_report)
        self.primary.clicked.connect(self.press_primary)
        self.shell.no_terminal.connect(lambda: self.banner.show_notice(Notice("info", "terminal.none")))
        self._copied.timeout.connect(self._show)
        self.menu.chosen.connect(self._on_option)
        self.menu.removal_asked.connect(self.ask_removal)
        self.menu.sources_asked.connect(self.ask_sources)
        self.pipeline.failed.connect(self._on_failed)
        language_changed.connect(self.retranslate)

    # What a person does

    def set_tab(self, name: str) -> None:
        """Show the steps or the terminal."""
        self.tabs[name].setChecked(True)
        self._pages.setCurrentIndex(TABS.index(name))
        if name == "terminal":
            self.shell.entry.setFocus()

    def show_node(self, node_id: str) -> None:
        """Show the step in which a node of the stepper stands: what is missing of it, else its first."""
        members = NODES[node_id]
        missing = (step for step in members if not self.setup.statuses[step].fulfilled)
        self.set_tab("steps")
        self.list.choose(next(missing, members[0]))

    def press_primary(self) -> None:
        """Make everything that is missing, or end what is being made."""
        if self._working:
            self.pipeline.cancel()
        else:
            self._follows = True
            self.pipeline.set_up()

    def copy_report(self) -> None:
        """Put everything that is known of the set-up on the clipboard."""
        QGuiApplication.clipboard().setText(self.setup.report(language()))
        self._copied.start()
        self._show()

    def close_shell(self) -> None:
        """End what runs in the terminal tab."""
        self.shell.close_shell()

    def _on_action(self, action: str) -> None:
        if action == "retry":
            self.pipeline.set_up(until=self.list.current)
        elif action == "recheck":
            self.pipeline.refresh()
        elif action == "restart":
            self.ask_restart()
        elif action == "remove_distribution":
            self.ask_removal()
        elif action == "choose_folder":
            self.menu.choose_folder()
        elif action == "choose_file":
            self.menu.choose_file()
        else:  # a mirror or a distribution, from the menu
            self.options.showMenu()

    def ask_restart(self) -> None:
        """Ask whether to restart now; what was begun is gone on with afterwards."""
        self._ask(Question("restart", ("now", "later"), self.window()), self._on_restart_answer)

    def ask_removal(self) -> None:
        """Ask whether our own distribution is to go, with what that frees."""
        size = fmt.size(self.pipeline.choices.own_bytes() or 0)
        question = Question("remove_distribution", ("remove", "keep"), self.window(), size=size)
        self._ask(question, self._on_removal_answer)

    def ask_sources(self) -> None:
        """Ask for addresses of the person's own."""
        choices = self.pipeline.choices
        on_windows = choices.windows is not None
        self.sources = SourcesDialog(choices.options, on_windows=on_windows, parent=self.window())
        self.sources.chosen.connect(lambda changed: self.pipeline.choose(**changed))
        self.sources.finished.connect(self.sources.deleteLater)
        self.sources.open()

    def _on_removal_answer(self, answer: str) -> None:
        self.question = None
        if answer == "remove":
            self.pipeline.remove_distribution()

    def _on_restart_answer(self, answer: str) -> None:
        self.question = None
        if answer == "now":
            try:
                self.pipeline.choices.restart()
            except OSError as error:
                self.banner.show_notice(Notice("error", problem=Problem("internal", {"detail": str(error)})))

    def _on_option(self, name: str, value: object) -> None:
        self._follows = True
        self.pipeline.choose(**{name: value})

    def _on_failed(self, problem: Problem | Code, details: str) -> None:
        """Show what failed here, unless it is shown with its step."""
        if self.isVisible() and all(problem != status.code for status in self.setup.statuses.values()):
            self.banner.show_notice(Notice("error", problem=problem, details=details))

    def _on_consent(self, plans: tuple[Plan, ...]) -> None:
        folder = next((plan.folder for plan in plans if isinstance(plan, DistroPlan)), self.setup.folder)
        self._ask(ConsentDialog(plans, str(folder), self.window()), self._on_consent_answer)

    def _ask(self, question: Question, then: Callable[[str], None]) -> None:
        question.answered.connect(then)
        question.finished.connect(question.deleteLater)
        question.open()
        self.question = question

    def _on_consent_answer(self, answer: str) -> None:
        self.question = None
        self.pipeline.answer_consent(answer == "allow")

    # What the set-up says

    @property
    def _working(self) -> bool:
        return self.pipeline.is_busy and not self.pipeline.is_training

    def _on_status(self, step_id: str) -> None:
        status = self.setup.statuses[step_id]
        self.list.show_status(status)
        if self._follows and status.state is not State.PROBING:
            self._show_what_matters(status)
        if step_id == self.list.current:
            self._show_detail()
        self._show()

    def _show_what_matters(self, status: Status) -> None:
        """Bring what is at work to the front, else what is in the way, else the last step."""
        obstacle = self.setup.obstacle
        matters = status if status.state in _AT_WORK else obstacle
        step_id = matters.step_id if matters is not None else LAST_STEP
        if self.list.current != step_id:
            self.list.show_current(step_id)
            self._show_step()

    def _on_line(self, step_id: str, line: str) -> None:
        if step_id == self.list.current:
            self.detail.append(line)

    def _on_chosen(self) -> None:
        self._follows = False
        self._show_step()

    def _show_step(self) -> None:
        self._scroll()
        self.detail.show_lines(self.setup.lines(self.list.current))
        self._show_detail()

    def _show_detail(self) -> None:
        step_id = self.list.current
        self.detail.show_step(
            self.setup.statuses[step_id],
            self.setup.plan(step_id),
            self.setup.progress(step_id),
            busy=self.pipeline.is_busy,
        )

    def _show(self) -> None:
        """The head of the page."""
        obstacle = self.setup.obstacle
        self.verdict.setText(self._verdict(obstacle))
        self.primary.setVisible(obstacle is not None or self._working)
        self.primary.setText(tr("environment.cancel" if self._working else "environment.set_up"))
        possible = obstacle is not None and obstacle.state in (State.MISSING, State.FAILED)
        self.primary.setEnabled(self._working or (possible and not self.pipeline.is_busy))
        for shown in (self.recheck, self.options):
            shown.setEnabled(not self.pipeline.is_busy)
        self.copy.setText(tr("environment.copied" if self._copied.isActive() else "environment.copy"))
        for shown in self.detail.buttons.values():
            shown.setEnabled(not self.pipeline.is_busy)

    def _verdict(self, obstacle: Status | None) -> str:
        if obstacle is None:
            return tr("environment.ready")
        name = tr(f"step.{obstacle.step_id}.name")
        if obstacle.state in (State.UNKNOWN, State.PROBING):
            return tr("environment.checking", step=name)
        if obstacle.state in _AT_WORK:
            return tr("environment.working", step=name)
        costs = total_costs(self.setup.plans())
        words = tr("environment.next", step=name, state=tr(f"setup.state.{obstacle.state.value}"))
        return f"{words} {tr('environment.costs', costs=costs)}" if costs else words

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self, self._scroll)  # once the list has its height

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        QTimer.singleShot(0, self, self._scroll)

    def _scroll(self) -> None:
        self._area.ensureWidgetVisible(self.list.rows[self.list.current], 0, 0)

    def retranslate(self) -> None:
        self.heading.setText(tr("page.environment"))
        self.options.setText(tr("environment.options"))
        self.recheck.setText(tr("environment.action.recheck"))
        for name, tab in self.tabs.items():
            tab.setText(tr(f"environment.{name}"))
        self._show()
