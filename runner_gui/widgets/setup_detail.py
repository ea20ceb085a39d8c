"""One step of set-up in full: what was found, what is wrong, what would be done, and what is being done."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.problems import as_problem
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.commands_view import CommandsView
from runner_gui.widgets.consent_dialog import plan_costs
from runner_gui.widgets.controls import Card, IconLabel, button, empty, label, row
from runner_gui.widgets.log_view import LogView
from runner_gui.widgets.problem_text import problem_text
from runner_gui.widgets.stepper import LOOKS
from wsl_bootstrap.codes import REGISTRY, Code, Severity
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan, Progress
from wsl_bootstrap.transitions import State

# What a code's buttons may be here; the output, which "show_log" means, is always in sight.
ACTIONS = (
    "retry",
    "recheck",
    "restart",
    "choose_distribution",
    "choose_folder",
    "choose_file",
    "choose_mirror",
    "remove_distribution",
)

_WORKING = (State.APPLYING, State.VERIFYING)


class SetupDetail(Card):
    """Shows what it is given.

    Signals:
        action_requested(str): one of `ACTIONS`, for the step that is shown.
    """

    action_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Status, Plan | None, Progress | None] | None = None
        self._busy = False
        self.icon = IconLabel("ring", "muted", 18)
        self.name, self.state = label("title"), label("muted")
        self.value = label(wrap=True)
        self.problem_title, self.problem_body = label("step_name", wrap=True), label(wrap=True)
        self.yourself_title, self.yourself = label("group"), CommandsView()
        self.plan_title, self.costs, self.commands = label("group"), label("muted", wrap=True), CommandsView()
        self.bar, self.progress_text = QProgressBar(), label("caption")
        self.bar.setTextVisible(False)
        self.log = LogView()
        self.log.open.hide()
        self.buttons: dict[str, QPushButton] = {}
        self._actions = QHBoxLayout()
        self._actions.setSpacing(8)
        self._lay_out()
        language_changed.connect(self.retranslate)

    def _lay_out(self) -> None:
        self.body.addLayout(row(self.icon, self.name, self.state, 1))
        self.body.addWidget(self.value)
        self.problem = QFrame()
        inside = QVBoxLayout(self.problem)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(4)
        for widget in (self.problem_title, self.problem_body):
            widget.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            inside.addWidget(widget)
        self.body.addWidget(self.problem)
        for widget in (self.yourself_title, self.yourself):
            self.body.addWidget(widget)
        self.body.addLayout(self._actions)
        self.body.addSpacing(4)
        for widget in (self.plan_title, self.costs, self.commands):
            self.body.addWidget(widget)
        progress = row(self.bar, self.progress_text)
        progress.setStretch(0, 1)
        self.body.addLayout(progress)
        self.body.addWidget(self.log, 100)
        self.body.addStretch(1)

    def show_step(
        self, status: Status, plan: Plan | None, progress: Progress | None, *, busy: bool = False
    ) -> None:
        """Show where a step stands; its output is shown by `show_lines` and `append`."""
        self._shown, self._busy = (status, plan, progress), busy
        icon, role, _ = LOOKS[status.state.value]
        self.icon.set_icon(icon, role)
        self._show_problem(status.code)
        self._show_buttons(_actions(status))
        self.commands.show_commands(plan.commands if plan is not None else ())
        working = status.state in _WORKING
        self._show_progress(progress, working)
        self.log.setVisible(working or bool(self.log.text.toPlainText()))
        self.retranslate()

    def show_lines(self, lines: Sequence[str]) -> None:
        """Show what the commands of the step, which is shown next, have printed so far."""
        self.log.clear()
        for line in lines:
            self.log.append(line)
        self.log.flush()

    def append(self, line: str) -> None:
        """Show one more line."""
        self.log.append(line)

    def retranslate(self) -> None:
        if self._shown is None:
            return
        status, plan, progress = self._shown
        self.name.setText(tr(f"step.{status.step_id}.name"))
        self.state.setText(tr(f"setup.state.{status.state.value}"))
        found = status.probe.value if status.probe is not None else ""
        self.value.setText(tr("environment.found", value=found))
        self.value.setVisible(bool(found))
        code = status.code
        if code is not None:
            words = problem_text(as_problem(code))
            self.problem_title.setText(words.title)
            # Of what is as it should be there is nothing to do.
            settled = status.fulfilled and code.severity is Severity.INFO
            self.problem_body.setText(words.why if settled else f"{words.why} {words.fix}".strip())
        self.yourself_title.setText(tr("environment.yourself"))
        self.plan_title.setText(tr("environment.plan"))
        self.costs.setText(plan_costs(plan) if plan is not None else "")
        has_plan = plan is not None and bool(plan.commands or plan.needs_consent)
        self.plan_title.setVisible(has_plan)
        self.costs.setVisible(bool(self.costs.text()))
        for action, shown in self.buttons.items():
            shown.setText(tr(f"environment.action.{action}"))
        if progress is not None:
            self.progress_text.setText(_progress_text(progress))

    def _show_problem(self, code: Code | None) -> None:
        self.problem.setVisible(code is not None)
        command = str(code.args.get("command", "")) if code is not None else ""
        self.yourself.show_text(command)
        self.yourself_title.setVisible(bool(command))

    def _show_buttons(self, actions: Sequence[str]) -> None:
        if list(self.buttons) != list(actions):
            empty(self._actions)
            self.buttons = {}
            for action in actions:
                new = button("confirm" if action == actions[0] else "")
                new.setDefault(action == actions[0])
                new.clicked.connect(lambda _=False, asked=action: self.action_requested.emit(asked))
                self.buttons[action] = new
                self._actions.addWidget(new)
            self._actions.addStretch(1)
        for shown in self.buttons.values():
            shown.setEnabled(not self._busy)

    def _show_progress(self, progress: Progress | None, working: bool) -> None:
        self.bar.setVisible(working)
        self.progress_text.setVisible(working and progress is not None)
        known = progress is not None and progress.total is not None and progress.total > 0
        self.bar.setRange(0, 1000 if known else 0)
        if known and progress is not None and progress.total:
            self.bar.setValue(1000 * progress.done // progress.total)


def _actions(status: Status) -> list[str]:
    code = status.code
    if code is None or status.state in (State.PROBING, *_WORKING):
        return []
    spec = REGISTRY.get(code.id)
    offered = spec.actions if spec is not None else ()
    if status.state is State.FAILED and "retry" not in offered:
        offered = ("retry", *offered)
    return [action for action in offered if action in ACTIONS]


def _progress_text(progress: Progress) -> str:
    in_bytes = progress.unit.startswith("bytes")
    done = fmt.size(progress.done) if in_bytes else fmt.whole(progress.done)
    if progress.total is None:
        return done
    return f"{done} / {fmt.size(progress.total) if in_bytes else fmt.whole(progress.total)}"
