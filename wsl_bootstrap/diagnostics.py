"""One text that says everything of a set-up: what a person copies when they ask for help."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence

from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.redact import redact
from wsl_bootstrap.report import Report
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan
from wsl_bootstrap.texts import load_texts

LAST_LINES = 60


def diagnostics(
    host: Host,
    statuses: Sequence[Status],
    plans: Sequence[Plan],
    lines: Mapping[str, Iterable[str]],
    language: str,
) -> str:
    """Return the system, every step with its explanation, what is left to do, and the last output of each.

    Args:
        lines: what the commands of each step printed.
        language: one of `texts.LANGUAGES`.
    """
    report = Report(load_texts(language))
    facts = host.facts()
    parts = [
        f"{facts.os_name} · {facts.os_build} · {facts.cpu_count} CPU · "
        f"{facts.memory_available_bytes / 1e9:.1f} / {facts.memory_total_bytes / 1e9:.1f} GB",
        f"Python {platform.python_version()} · {sys.platform}",
        "",
    ]
    for status in statuses:
        parts.extend(filter(None, [report.status_line(status), report.explanation(status)]))
    if plans:
        parts += ["", report.plans(plans)]
    for step_id, printed in lines.items():
        if last := list(printed)[-LAST_LINES:]:
            parts += ["", f"--- {report.step_name(step_id)}", *last]
    return redact("\n".join(parts)) + "\n"
