"""The sample from its data to an answer in its style, in a terminal: `python -m runner_gui.headless`.

Drives the same pipeline as the window, without one: nothing here needs a display or its libraries.
Exit status: 0 only if all that was promised is true, 1 otherwise, 2 if it could not begin, 3 stopped.
"""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtCore import QCoreApplication, QObject, QTimer

from runner_gui.i18n import LANGUAGES, set_language, tr
from runner_gui.model.form import FormState
from runner_gui.model.problems import AnyProblem, sentence_key
from runner_gui.model.run_store import best_checkpoint
from runner_gui.model.series import RunSeries
from runner_gui.model.workspace import Workspace
from runner_gui.services.commands import Command
from runner_gui.services.interview import Interview
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.process import JobProcess
from trainer.contract.errors import AppError
from trainer.contract.events import Event
from trainer.contract.run_folder import RunFolder

EXIT_DONE, EXIT_FAILED, EXIT_CANNOT_BEGIN, EXIT_STOPPED = 0, 1, 2, 3
LEAST_FALL = 0.30
SHOW_EVERY_S = 2.0
# Run by a child, since this program never imports torch: the merged file in the package that others use.
LOAD_IN_PACKAGE = """
import os, sys
os.environ.update(RWKV_V7_ON="1", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
from rwkv.model import RWKV
logits, _ = RWKV(model=sys.argv[1].removesuffix(".pth"), strategy="cpu fp32").forward([1, 2, 3], None)
assert bool(logits.isfinite().all()), "logits are not finite"
"""


@dataclass(slots=True)
class Findings:
    """What came out, to be held against what was promised."""

    fall: float | None = None
    loads: bool = False
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)

    def verdicts(self, style: dict[str, Any]) -> list[tuple[str, bool]]:
        """Each promise by its catalogue key, and whether it is kept."""
        return [
            ("headless.loss_fell", self.fall is not None and self.fall >= LEAST_FALL),
            ("headless.loads_in_package", self.loads),
            ("headless.style_after", all(in_style(style[k], self.after.get(k, "")) for k in style)),
            ("headless.no_style_before", not any(in_style(style[k], self.before.get(k, "")) for k in style)),
        ]


def in_style(style: dict[str, str], answer: str) -> bool:
    """Whether an answer bears the mark of the sample's style."""
    return re.search(style["marker"], answer, re.DOTALL) is not None


def loss_fall(series: RunSeries) -> float | None:
    """By what share the training loss fell: the mean of the last tenth of the steps against the first steps'.

    The first twentieth stands for the start, since single batches differ much.
    """
    loss = series.loss[np.isfinite(series.loss)]
    if len(loss) < 2:
        return None
    first = loss[: max(1, len(loss) // 20)].mean()
    return float(1.0 - loss[-max(1, len(loss) // 10) :].mean() / first)


class Headless(QObject):
    """One walk of the sample through the pipeline, a line for everything that happens."""

    def __init__(self, workspace: Workspace, *, agree: bool, out: Callable[[str], None]) -> None:
        super().__init__()
        self._workspace = workspace
        self._agree = agree
        self._out = out
        self._findings = Findings()
        self._style: dict[str, Any] = workspace.demo_style() or {}
        self._form = FormState(workspace.demo_params())
        self._shown_s = 0.0
        self._states: dict[str, str] = {}
        self._exit = EXIT_FAILED
        self._stopping = False
        self._job: JobProcess | None = None
        self._interviews: list[Interview] = []
        self._pipeline = Pipeline(workspace, parent=self)
        self._connect()

    def _connect(self) -> None:
        pipeline = self._pipeline
        pipeline.steps_changed.connect(self._on_steps)
        pipeline.event_received.connect(self._on_event)
        pipeline.warned.connect(self._say_problem)
        pipeline.failed.connect(self._on_failed)
        pipeline.restart_needed.connect(lambda problem: self._on_failed(problem, ""))
        pipeline.run_ended.connect(self._on_run_ended)
        pipeline.merged.connect(self._on_merged)
        pipeline.consent_needed.connect(self._on_consent)
        pipeline.busy_changed.connect(self._on_busy)

    def begin(self) -> None:
        """Start; the event loop ends with the exit status."""
        params = self._form.params()
        if params is None or not self._style:
            for problem in self._form.errors():
                self._out(problem.sentence())
            self._out(tr("headless.no_demo"))
            self._quit(EXIT_CANNOT_BEGIN)
            return
        try:
            self._workspace.prepare()
        except AppError as error:
            self._say_problem(error.problem)
            self._quit(EXIT_CANNOT_BEGIN)
            return
        self._out(tr("headless.work_dir", path=str(self._workspace.root)))
        self._out(tr("headless.asking_base", model=Path(params.base_model).name))
        self._interview(Path(params.base_model), self._findings.before, self._train)

    def stop(self) -> None:
        """The person wants it to end: first in good order, the second time at once."""
        if self._pipeline.is_training and not self._stopping:
            self._stopping = True
            self._out(tr("headless.stopping"))
            self._pipeline.stop(save=True)
        else:
            self._quit(EXIT_STOPPED)

    def close(self) -> None:
        for interview in self._interviews:
            interview.close()
        if self._job is not None:
            self._job.close()
        self._pipeline.close()

    def _train(self) -> None:
        params = self._form.params()
        assert params is not None
        self._pipeline.start(params, "demo")

    def _on_steps(self) -> None:
        for view in self._pipeline.steps:
            if self._states.get(view.id) != view.state and view.state not in (
                "unknown",
                "probing",
                "missing",
            ):
                name, state = tr(f"step.{view.id}.name"), tr(f"setup.state.{view.state}")
                self._out(f"{name}: {state}" + (f" ({view.detail})" if view.detail else ""))
            self._states[view.id] = view.state

    def _on_event(self, event: Event) -> None:
        if event.t == "step":
            last = event.get("step") == event.get("total")
            if not last and time.monotonic() - self._shown_s < SHOW_EVERY_S:
                return
            self._shown_s = time.monotonic()
            loss, eta_s = event.get("loss"), event.get("eta_s")
            self._out(
                tr(
                    "headless.step",
                    step=event.get("step"),
                    total=event.get("total"),
                    loss="—" if loss is None else f"{loss:.3f}",
                    tok_s=f"{event.get('tok_s') or 0:.0f}",
                    eta_s="—" if eta_s is None else f"{eta_s:.0f}",
                )
            )
        elif event.t == "eval" and event.get("loss") is not None:
            self._out(tr("headless.eval", step=event["step"], loss=f"{event['loss']:.3f}"))
        elif event.t == "checkpoint":
            self._out(tr("headless.saved", path=str(event.get("path"))))

    def _on_run_ended(self, status: str) -> None:
        run = self._pipeline.run_folder
        if status == "stopped":
            self._out(tr("headless.stopped"))
            self._quit(EXIT_STOPPED)
        elif status == "completed" and run is not None:
            self._findings.fall = loss_fall(RunSeries.from_file(run.events))
            # The pipeline still has to take the end in; what follows waits for that.
            QTimer.singleShot(0, self, lambda: self._merge_when_free(run))

    def _merge_when_free(self, run: RunFolder) -> None:
        if self._pipeline.is_busy:
            QTimer.singleShot(50, self, lambda: self._merge_when_free(run))
            return
        checkpoint = best_checkpoint(run)
        if checkpoint is None:
            self._out(tr("headless.no_checkpoint"))
            self._quit(EXIT_FAILED)
            return
        self._pipeline.merge(checkpoint, run)

    def _on_merged(self, path: str) -> None:
        self._out(tr("headless.merged", path=path))
        self._job = JobProcess(Command((sys.executable, "-c", LOAD_IN_PACKAGE, path)), self)
        self._job.finished.connect(lambda outcome: self._on_loaded(Path(path), outcome))
        self._job.start()

    def _on_loaded(self, model: Path, outcome: JobOutcome) -> None:
        self._findings.loads = outcome.status == "completed"
        if not self._findings.loads:
            self._out(outcome.details())
        self._out(tr("headless.asking_tuned", model=model.name))
        self._interview(model, self._findings.after, self._judge)

    def _interview(self, model: Path, answers: dict[str, str], then: Callable[[], None]) -> None:
        """Load a model, put every prompt to it, print the answers, and go on."""
        prompts = {key: style["prompt"] for key, style in self._style.items()}
        interview = Interview(model, prompts, self, place=self._pipeline.place)
        self._interviews.append(interview)
        interview.asked.connect(
            lambda key: self._out(tr("headless.question", text=self._style[key]["prompt"]))
        )
        interview.answered.connect(lambda key, text: self._on_answer(answers, key, text))
        interview.failed.connect(self._on_failed)
        interview.finished.connect(then)
        interview.begin()

    def _on_answer(self, answers: dict[str, str], key: str, text: str) -> None:
        answers[key] = text
        mark = tr("headless.in_style" if in_style(self._style[key], text) else "headless.not_in_style")
        self._out(tr("headless.answer", text=text.strip(), mark=mark))

    def _judge(self) -> None:
        verdicts = self._findings.verdicts(self._style)
        fall = self._findings.fall or 0.0
        for key, kept in verdicts:
            word = tr("headless.yes" if kept else "headless.no")
            self._out(f"{word}  {tr(key, percent=f'{100 * fall:.0f}')}")
        self._quit(EXIT_DONE if all(kept for _, kept in verdicts) else EXIT_FAILED)

    def _on_consent(self, plans: object) -> None:
        self._out(tr("headless.consent_given" if self._agree else "headless.consent_needed"))
        self._pipeline.answer_consent(self._agree)

    def _on_busy(self, busy: bool) -> None:
        # What was not agreed to, or was called off, ends without a failure of its own.
        if not busy and not self._agree and self._pipeline.run_folder is None:
            QTimer.singleShot(0, self, lambda: self._quit(EXIT_STOPPED))

    def _say_problem(self, problem: AnyProblem) -> None:
        key, args = sentence_key(problem), dict(problem.args)
        self._out(f"{tr(key + '.title', **args)} {tr(key + '.fix', **args)}")

    def _on_failed(self, problem: AnyProblem, details: str) -> None:
        self._say_problem(problem)
        if details:
            self._out(details)
        self._quit(EXIT_FAILED)

    def _quit(self, code: int) -> None:
        self._exit = code
        QCoreApplication.exit(code)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Carry the sample through the whole pipeline and say whether all came out as promised."""
    parser = argparse.ArgumentParser(prog="runner_gui.headless", description=main.__doc__)
    parser.add_argument("--work-dir", type=Path, help="where runs, models and converted data go")
    parser.add_argument("--language", choices=("system", *LANGUAGES), default="system")
    parser.add_argument("--yes", action="store_true", help="agree to downloads that set-up may need")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app = QCoreApplication.instance() or QCoreApplication(sys.argv[:1])
    set_language(args.language)
    headless = Headless(Workspace(args.work_dir), agree=args.yes, out=_print)
    signal.signal(signal.SIGINT, lambda *_: headless.stop())
    signal.signal(signal.SIGTERM, lambda *_: headless.stop())
    # Python looks at signals only when it runs: this makes it run.
    awake = QTimer(interval=200)
    awake.timeout.connect(lambda: None)
    awake.start()
    QTimer.singleShot(0, headless, headless.begin)
    code = app.exec()
    awake.stop()
    headless.close()
    return code


if __name__ == "__main__":
    raise SystemExit(main())
