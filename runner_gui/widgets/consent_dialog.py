"""The one question before set-up changes anything: what it does, command by command, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from runner_gui.i18n import tr
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.commands_view import CommandsView
from runner_gui.widgets.controls import label
from runner_gui.widgets.dialogs import Question
from runner_gui.widgets.problem_text import problem_line
from wsl_bootstrap.step import Plan


def plan_costs(plan: Plan) -> str:
    """What one step takes: rights, a restart, a download, room on the disk."""
    marks = [
        tr("consent.admin") if plan.admin else "",
        tr("consent.restart") if plan.reboot else "",
        tr("consent.download", size=fmt.size(plan.download_bytes)) if plan.download_bytes else "",
        tr("consent.disk", size=fmt.size(plan.disk_bytes)) if plan.disk_bytes else "",
    ]
    return " · ".join(filter(None, marks))


def total_costs(plans: Sequence[Plan]) -> str:
    """What all steps together take."""
    return plan_costs(
        Plan(
            "",
            admin=any(plan.admin for plan in plans),
            reboot=any(plan.reboot for plan in plans),
            download_bytes=sum(plan.download_bytes for plan in plans),
            disk_bytes=sum(plan.disk_bytes for plan in plans),
        )
    )


class ConsentDialog(Question):
    """Asks once for everything: administrator rights, restart, download, disk, folder.

    Args:
        plans: what would be done; steps that only look are carried out in passing and not listed.
        folder: where it goes.
    """

    def __init__(self, plans: Sequence[Plan], folder: str, parent: QWidget | None = None) -> None:
        super().__init__("consent", ("allow", "refuse"), parent, costs=total_costs(plans))
        self.setMinimumWidth(600)
        listed = [plan for plan in plans if plan.commands or plan.needs_consent]
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        for line, plan in enumerate(listed):
            name, costs = label("step_name"), label("muted", wrap=True)
            name.setText(tr(f"step.{plan.step_id}.name"))
            costs.setText(plan_costs(plan))
            grid.addWidget(name, line, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(costs, line, 1)
        self.content.addLayout(grid)
        self.commands = CommandsView()
        self.commands.show_commands([command for plan in listed for command in plan.commands])
        self.content.addWidget(self.commands)
        for code in dict.fromkeys(code for plan in listed for code in plan.notices):
            notice = label("amber", wrap=True)
            notice.setText(problem_line(code))
            self.content.addWidget(notice)
        where = label("caption", wrap=True)
        where.setText(tr("consent.folder", folder=folder))
        self.content.addWidget(where)
