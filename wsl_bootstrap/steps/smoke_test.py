"""The proof: the trainer's own doctor computes with what was set up."""

from __future__ import annotations

import json
from dataclasses import dataclass

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.hosts.base import Completed, Host
from wsl_bootstrap.live import run_live
from wsl_bootstrap.step import OnEvent, Outcome, Plan, Probe, StepError

_TIMEOUT_S = 600.0  # the first run may compile kernels


@dataclass(frozen=True)
class DoctorCheck:
    """One line of the doctor's answer."""

    id: str
    ok: bool
    detail: str


class SmokeTestStep:
    """Satisfied once the doctor has passed in this run of the program.

    Nothing is written down: an environment can break between two runs, and asking again takes seconds and
    costs nothing, so it happens without a question on the way to training.
    """

    id = "smoke_test"
    requires: tuple[str, ...] = ("memory", "torch_env")

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._passed = ""

    def probe(self, host: Host) -> Probe:
        """Say whether the doctor has passed; running it is for `apply`, a look should cost nothing."""
        return Probe.satisfied(self._passed) if self._passed else Probe.missing(make_code("smoke_not_run"))

    def plan(self, host: Host, options: object) -> Plan:
        """One command, no costs."""
        return Plan(self.id, commands=((self._environment.python, "-m", "trainer", "doctor", "--json"),))

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Run the doctor and read its answer, the last line that it prints.

        Raises:
            StepError: a check did not pass, or there is no answer.
        """
        self._passed = ""
        done = run_live(
            host,
            plan.commands[0],
            on_event,
            cancel,
            timeout_s=_TIMEOUT_S,
            cwd=self._environment.seen_from(host).source_folder,
        )
        checks = _read_answer(done)
        failed = [check for check in checks if not check.ok]
        if failed:
            detail = "\n".join(f"{check.id}: {check.detail}" for check in failed)
            raise StepError(
                make_code("smoke_failed", failed=", ".join(check.id for check in failed), detail=detail)
            )
        self._passed = f"{len(checks)}/{len(checks)}"
        return Outcome()


def _read_answer(done: Completed) -> list[DoctorCheck]:
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        checks = [
            DoctorCheck(str(c["id"]), bool(c["ok"]), str(c.get("detail", ""))) for c in answer["checks"]
        ]
        if not checks or bool(answer["ok"]) != all(check.ok for check in checks):
            raise ValueError("the verdict and the checks disagree")
    except (IndexError, ValueError, KeyError, TypeError, AttributeError):
        code = make_code("smoke_no_answer", exit_code=done.exit_code, detail=done.stdout[-2000:])
        raise StepError(code) from None
    return checks
