"""A problem of the trainer's as sentences in the language in use."""

from __future__ import annotations

from dataclasses import dataclass

from runner_gui.i18n import language, tr
from trainer.contract.errors import Problem
from trainer.contract.texts import text


@dataclass(frozen=True, slots=True)
class ProblemText:
    """What happened, why, and what to do next."""

    title: str
    why: str
    fix: str


def problem_text(problem: Problem) -> ProblemText:
    args = {**problem.args}
    if problem.param is not None:
        args["param"] = tr(f"param.{problem.param}.label")
    code = problem.code
    return ProblemText(
        tr(f"error.{code}.title", **args), tr(f"error.{code}.why", **args), tr(f"error.{code}.fix", **args)
    )


def problem_line(problem: Problem) -> str:
    """What happened and what to do, in one line."""
    try:
        return problem.sentence(language())
    except KeyError:  # a fact is missing from the event: say what can be said
        return text(f"error.{problem.code}.fix", language()) if not problem.args else problem.code
