"""Statuses and plans for people to read and for programs to read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from wsl_bootstrap.codes import Code, Severity
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan
from wsl_bootstrap.texts import code_text
from wsl_bootstrap.transitions import State

Json = dict[str, object]

_MARKS = {
    State.SATISFIED: "✓",
    State.NOT_NEEDED: "–",
    State.MISSING: "○",
    State.NEEDS_REBOOT: "↻",
    State.BLOCKED: "✗",
    State.UNSUPPORTED: "✗",
    State.FAILED: "✗",
}


class Report:
    """Writes in the language of the texts it was made with."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def say(self, key: str, **args: object) -> str:
        """Return one of the command line's own sentences."""
        return self._texts[f"setup.cli.{key}"].format(**args)

    def status_line(self, status: Status) -> str:
        """Return one line: mark, step, state, what was found, and a remark where there is one."""
        parts = [
            f"{_MARKS.get(status.state, '·')} {self.step_name(status.step_id)}: {self.state_name(status)}"
        ]
        if status.state is State.UNKNOWN:
            parts.append(self.say("waiting"))
        if status.fulfilled and status.probe and status.probe.value:
            parts.append(status.probe.value)
        if status.code and status.state is not State.NOT_NEEDED:
            parts.append(code_text(self._texts, status.code, "title"))
        return " · ".join(parts)

    def explanation(self, status: Status) -> str:
        """Return why a step is as it is and what to do, or nothing where there is nothing to do."""
        code = status.code
        if code is None or (status.fulfilled and code.severity is Severity.INFO):
            return ""
        lines = [f"{self.say(part)}: {code_text(self._texts, code, part)}" for part in ("why", "fix")]
        return "\n".join("    " + line for text in lines for line in text.splitlines())

    def plans(self, plans: Sequence[Plan]) -> str:
        """Return what would be done, command by command, with the costs of each step and of all."""
        if not plans:
            return self.say("nothing_to_do")
        lines: list[str] = []
        for plan in plans:
            marks = [self.say(mark) for mark, on in (("admin", plan.admin), ("reboot", plan.reboot)) if on]
            if plan.needs_consent:
                marks.append(self.say("costs", **_megabytes(plan.download_bytes, plan.disk_bytes)))
            lines.append(" · ".join([self.step_name(plan.step_id), *marks]))
            lines.extend("    " + code_text(self._texts, notice, "why") for notice in plan.notices)
            lines.extend(f"    $ {shlex.join(command)}" for command in plan.commands)
        total = _megabytes(sum(p.download_bytes for p in plans), sum(p.disk_bytes for p in plans))
        return "\n".join([*lines, self.say("total", **total)])

    def step_name(self, step_id: str) -> str:
        """Return a step's name."""
        return self._texts[f"step.{step_id}.name"]

    def state_name(self, status: Status) -> str:
        """Return the word for a step's state."""
        return self._texts[f"setup.state.{status.state.value}"]


def statuses_json(statuses: Sequence[Status]) -> Json:
    """Return statuses as they are printed with --json."""
    waiting = (status.step_id for status in statuses if not status.fulfilled)
    obstacle = next(waiting, None)
    return {
        "ready": obstacle is None,
        "obstacle": obstacle,
        "steps": [
            {
                "id": status.step_id,
                "state": status.state.value,
                "value": status.probe.value if status.probe else "",
                "code": _code_json(status.code) if status.code else None,
                "retryable": status.retryable,
                "attempts": status.attempts,
            }
            for status in statuses
        ],
    }


def plans_json(plans: Sequence[Plan]) -> Json:
    """Return plans and their costs together as they are printed with --json."""
    return {
        "admin": any(plan.admin for plan in plans),
        "reboot": any(plan.reboot for plan in plans),
        "download_bytes": sum(plan.download_bytes for plan in plans),
        "disk_bytes": sum(plan.disk_bytes for plan in plans),
        "plans": [
            {
                "step": plan.step_id,
                "commands": [list(command) for command in plan.commands],
                "admin": plan.admin,
                "reboot": plan.reboot,
                "download_bytes": plan.download_bytes,
                "disk_bytes": plan.disk_bytes,
                "notices": [_code_json(code) for code in plan.notices],
            }
            for plan in plans
        ],
    }


def _code_json(code: Code) -> Json:
    return {"id": code.id, "severity": code.severity.value, "args": dict(code.args)}


def _megabytes(download_bytes: int, disk_bytes: int) -> dict[str, int]:
    return {"download_mb": download_bytes // 10**6, "disk_mb": disk_bytes // 10**6}
