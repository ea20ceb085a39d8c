"""One way to the sentences of a problem, whether the trainer or the set-up met it."""

from __future__ import annotations

from trainer.contract.errors import CODES, Problem
from wsl_bootstrap.codes import Code, Severity

AnyProblem = Problem | Code


def sentence_key(problem: AnyProblem) -> str:
    """The catalogue key under which `.title`, `.why` and `.fix` of a problem are found."""
    return f"error.{problem.code}" if isinstance(problem, Problem) else f"setup.{problem.id}"


def as_code(problem: AnyProblem) -> Code:
    """A problem as the engine carries it."""
    if isinstance(problem, Code):
        return problem
    severity = Severity.ERROR if problem.severity == "error" else Severity.WARNING
    return Code(problem.code, severity, dict(problem.args))


def as_problem(code: Code) -> AnyProblem:
    """What the engine carried, as it was before: a code of the trainer's is one of its problems again."""
    return Problem(code.id, dict(code.args)) if _is_trainers(code) else code


def _is_trainers(code: Code) -> bool:
    from wsl_bootstrap.codes import REGISTRY

    spec = REGISTRY.get(code.id)
    return code.id in CODES and (spec is None or set(spec.args) != set(code.args))
