"""A problem of the trainer's or of the set-up's as sentences in the language in use."""

from __future__ import annotations

from dataclasses import dataclass

from runner_gui.i18n import tr
from trainer.contract.errors import Problem
from wsl_bootstrap.codes import Code


@dataclass(frozen=True, slots=True)
class ProblemText:
    """What happened, why, and what to do next."""

    title: str
    why: str
    fix: str


def problem_text(problem: Problem | Code) -> ProblemText:
    args = dict(problem.args)
    if isinstance(problem, Code):
        key = f"setup.{problem.id}"
    else:
        key = f"error.{problem.code}"
        if problem.param is not None:
            args["param"] = tr(f"param.{problem.param}.label")
    return ProblemText(tr(f"{key}.title", **args), tr(f"{key}.why", **args), tr(f"{key}.fix", **args))


def problem_line(problem: Problem | Code) -> str:
    """What happened and what to do, in one line."""
    words = problem_text(problem)
    return f"{words.title} {words.fix}".strip()
