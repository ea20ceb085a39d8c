"""How a failed run is written down. Without torch, which may be the very thing that is missing."""

from __future__ import annotations

import traceback
from contextlib import suppress

from trainer.contract.errors import AppError, InputError, Problem
from trainer.contract.events import EventWriter
from trainer.contract.files import write_json
from trainer.contract.run_folder import RunFolder


def fail(run: RunFolder, events: EventWriter, error: BaseException) -> Problem:
    """Write down how a run failed; the run folder keeps every checkpoint.

    Where a resume was refused nothing has failed: the run stays what it was, stopped or even completed.
    """
    problem = error.problem if isinstance(error, AppError) else Problem("internal", {"detail": repr(error)})
    trace = traceback.format_exception(error)
    tail = "".join(trace).splitlines()[-40:]
    with suppress(AppError):  # a full disk may be the very failure: then stderr alone tells it
        events.write("error", code=problem.code, args=dict(problem.args), fatal=True, trace_tail=tail)
        if run.run_json.exists() and not isinstance(error, InputError):
            write_json(
                run.summary_json, {"status": "failed", "code": problem.code, "args": dict(problem.args)}
            )
    return problem
