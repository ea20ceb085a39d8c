"""The command line of set-up: `python -m wsl_bootstrap status|plan|apply|doctor|report|remove`.

Exit codes: 0 done, 1 something failed or stands in the way, 2 wrong usage, 3 stopped or not agreed to,
4 a restart is needed. `status`, `plan` and `report` only tell, and end with 0.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from platformdirs import user_state_path

from wsl_bootstrap.bundle import gather, write_bundle
from wsl_bootstrap.distribution import disk_bytes, remove
from wsl_bootstrap.engine import Engine
from wsl_bootstrap.environment import APP_FOLDER, Environment, SetupOptions, current_environment
from wsl_bootstrap.hosts import OWN_DISTRIBUTION, this_host
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.journal import Journal
from wsl_bootstrap.mirrors import CUSTOM, MIRRORS
from wsl_bootstrap.options import options_file
from wsl_bootstrap.reach import odd
from wsl_bootstrap.report import Report, plans_json, statuses_json
from wsl_bootstrap.status import Consent, Status, StepEvent, Transition
from wsl_bootstrap.step import OutputLine, Plan
from wsl_bootstrap.steps import setup_steps
from wsl_bootstrap.texts import LANGUAGES, load_texts, system_language
from wsl_bootstrap.transitions import Event, State

_CHOICES = ("index_url", "mirror", "proxy", "distribution", "system", "folder", "rootfs")
EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, EXIT_RESTART = 0, 1, 3, 4


class CommandLine:
    """One call of the command line, on one engine."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._report = Report(load_texts(arguments.language))
        self._stopped = False
        options = _options(arguments)
        host = this_host(options.distribution)
        self._engine = Engine(
            setup_steps(_environment(arguments, host), options), host, options, Journal(arguments.journal)
        )
        self._engine.subscribe(self._follow)

    def execute(self) -> int:
        """Do what the arguments say and return the exit code."""
        return getattr(self, self._arguments.command)()

    def status(self) -> int:
        """Tell where every step stands."""
        self._work(self._engine.probe_all)
        self._show_statuses()
        return EXIT_STOPPED if self._stopped else EXIT_DONE

    def plan(self) -> int:
        """Tell what is left to do and what it costs."""
        self._work(self._engine.probe_all)
        plans = self._engine.forecast()
        self._show(self._report.plans(plans), plans_json(plans))
        return EXIT_STOPPED if self._stopped else EXIT_DONE

    def apply(self) -> int:
        """Make what is missing, once the person has agreed to all of it."""
        self._work(self._engine.probe_all)
        plans = self._engine.forecast()
        obstacle = self._engine.obstacle()
        if obstacle is not None and obstacle.state is State.MISSING and not self._agree(plans):
            self._tell(self._report.say("refused"))
            return EXIT_STOPPED
        agreed = {plan.step_id: plan for plan in plans}
        return self._walk(
            lambda plans: all(plan.step_id in agreed and plan.within(agreed[plan.step_id]) for plan in plans)
        )

    def doctor(self) -> int:
        """Check everything and compute for proof, but install nothing."""
        return self._walk(lambda plans: False)

    def report(self) -> int:
        """Write what helps others to help: probes, plans, versions, journal and logs, without secrets."""
        self._work(self._engine.probe_all)
        arguments, host = self._arguments, self._engine.host
        logs = [arguments.journal, *arguments.add]
        plans = self._engine.forecast()
        parts = gather(host, self._engine.statuses(), plans, self._engine.options, logs, arguments.language)
        write_bundle(arguments.output, host, parts)
        self._show(self._report.say("bundle", path=arguments.output), {"path": str(arguments.output)})
        return EXIT_STOPPED if self._stopped else EXIT_DONE

    def remove(self) -> int:
        """Remove our own distribution on Windows with everything in it; the person's are left alone."""
        host = self._engine.host
        if (
            not isinstance(host, WindowsHost)
            or host.windows.snapshot().distribution(OWN_DISTRIBUTION) is None
        ):
            self._show(self._report.say("nothing_to_remove"), {"freed_bytes": 0})
            return EXIT_DONE
        question = self._report.say("remove", name=OWN_DISTRIBUTION, size_gb=round(disk_bytes(host) / 1e9, 1))
        if not self._asked(question):
            return EXIT_STOPPED
        freed_bytes = remove(host)
        said = self._report.say("removed", name=OWN_DISTRIBUTION, size_gb=round(freed_bytes / 1e9, 1))
        self._show(said, {"freed_bytes": freed_bytes})
        return EXIT_DONE

    def _walk(self, consent: Consent) -> int:
        if not self._stopped:
            self._work(lambda: self._engine.run(consent))
        self._show_statuses()
        obstacle = self._engine.obstacle()
        if obstacle is None:
            return EXIT_DONE
        if self._stopped:
            return EXIT_STOPPED
        return EXIT_RESTART if obstacle.state is State.NEEDS_REBOOT else EXIT_FAILED

    def _work(self, work: Callable[[], object]) -> None:
        """Run the engine beside this thread, which stays free to hear Ctrl+C."""
        with ThreadPoolExecutor(1, thread_name_prefix="set-up") as pool:
            running = pool.submit(work)
            while not running.done():
                try:
                    wait([running])
                except KeyboardInterrupt:
                    self._stopped = True
                    self._engine.cancel()
                    self._tell(self._report.say("cancelled"))
        running.result()

    def _agree(self, plans: tuple[Plan, ...]) -> bool:
        if not any(plan.needs_consent for plan in plans):
            return True
        self._tell(self._report.plans(plans))
        return self._asked(self._report.say("agree"))

    def _asked(self, question: str) -> bool:
        if self._arguments.yes:
            return True
        self._tell(question, end="")
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:
            return False

    def _follow(self, happening: Transition | StepEvent) -> None:
        """Show the work as it goes; a mere look is shown at the end."""
        if isinstance(happening, StepEvent):
            if isinstance(happening.payload, OutputLine):
                self._tell("    " + happening.payload.text)
        elif happening.event in (Event.CONSENT, Event.DONE, Event.RETRY, Event.FAIL):
            self._tell(self._report.status_line(happening.after))

    def _show_statuses(self) -> None:
        lines: list[str] = []
        for status in self._engine.statuses():
            lines.append(self._report.status_line(status))
            lines.extend(filter(None, [self._report.explanation(status)]))
        self._show("\n".join([*lines, self._verdict()]), statuses_json(self._engine.statuses()))

    def _verdict(self) -> str:
        obstacle: Status | None = self._engine.obstacle()
        if obstacle is None:
            return self._report.say("ready")
        name, state = self._report.step_name(obstacle.step_id), self._report.state_name(obstacle)
        return self._report.say("obstacle", step=name, state=state)

    def _show(self, text: str, record: dict[str, object]) -> None:
        print(json.dumps(record, ensure_ascii=False) if self._arguments.json else text, flush=True)

    def _tell(self, text: str, end: str = "\n") -> None:
        """With --json, stdout belongs to the one object at the end."""
        print(text, end=end, file=sys.stderr if self._arguments.json else sys.stdout, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run, and return the exit code."""
    arguments = _parser().parse_args(argv)
    level = logging.DEBUG if arguments.verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being ended is being asked to stop
    return CommandLine(arguments).execute()


def _options(arguments: argparse.Namespace) -> SetupOptions:
    """Return the choices that were kept, with those of the command line before them."""
    given = {name: getattr(arguments, name) for name in _CHOICES}
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(SetupOptions.load(arguments.options), **chosen)


def _environment(arguments: argparse.Namespace, host: Host) -> Environment:
    environment = current_environment(host)
    if arguments.venv is not None:
        environment = replace(environment, folder=arguments.venv.absolute())
    return replace(environment, torch=arguments.torch)


def _address(text: str) -> str:
    if odd(text):
        raise argparse.ArgumentTypeError(f"not an address: {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wsl_bootstrap", description="From a computer to a Linux environment that can train."
    )
    parser.add_argument("command", choices=("status", "plan", "apply", "doctor", "report", "remove"))
    parser.add_argument("--json", action="store_true", help="print one JSON object, last on stdout")
    parser.add_argument("--yes", action="store_true", help="agree to the plan without being asked")
    parser.add_argument("--venv", type=Path, help="the environment to look at or make (default: this one)")
    parser.add_argument("--torch", choices=("auto", "cpu"), default="auto", help="which build of torch")
    parser.add_argument("--index-url", type=_address, help="a mirror of the Python package index")
    parser.add_argument("--mirror", choices=(*MIRRORS, CUSTOM), help="where downloads come from")
    parser.add_argument("--proxy", type=_address, help="http://host:port, for everything that is downloaded")
    parser.add_argument("--distribution", help="on Windows: which distribution trains (default: our own)")
    parser.add_argument("--system", help="on Windows: what our own is made of (default: Ubuntu-24.04)")
    parser.add_argument("--folder", help="on Windows: where our own distribution goes")
    parser.add_argument("--rootfs", help="on Windows: a file to make our own distribution of")
    parser.add_argument("--options", type=Path, default=options_file(), help="where choices are kept")
    parser.add_argument(
        "--output", type=Path, default=Path("rwkv-lora-runner-report.zip"), help="report: the file"
    )
    parser.add_argument("--add", type=Path, action="append", default=[], help="report: a log to put into it")
    default_journal = user_state_path(APP_FOLDER, appauthor=False) / "setup.json"
    parser.add_argument("--journal", type=Path, default=default_journal, help="where to keep the journal")
    parser.add_argument("--language", choices=LANGUAGES, default=system_language())
    parser.add_argument("--verbose", action="store_true", help="log every command with its output, on stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
