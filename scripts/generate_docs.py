"""Writes docs/parameters.md from the parameter table: `.venv/bin/python scripts/generate_docs.py`.

With --check nothing is written, and the exit status is 1 where the page is not what it would become.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trainer.contract.params import GROUPS, PARAMS, Param  # noqa: E402
from trainer.contract.texts import catalogue, text  # noqa: E402

PAGE = ROOT / "docs" / "parameters.md"
INTRODUCTION = """\
# Parameters of training

Every parameter of a run, in the order of the form. The form, the flags of `rwkv-trainer train`, the checks
before a run and this page are made from one table, `trainer/contract/params.py`. A flag is the parameter's
name with hyphens: `ctx_len` is `--ctx-len`. A switch is `--grad-cp` or `--no-grad-cp`; several values are
separated by commas; `--sample-prompt` is given once for every prompt. *Basic* parameters are those of the
simple form.

A value outside the bounds stops a run before it starts, with every other problem at once. A value above what
is advised only warns.

This page is written by `scripts/generate_docs.py`.
"""


def page() -> str:
    """Return the whole page."""
    return INTRODUCTION + "".join(group_section(group) for group in GROUPS)


def group_section(group: str) -> str:
    """Return the heading of a group and a table of its parameters."""
    rows = [row(param) for param in PARAMS.values() if param.group == group]
    head = "| name | in the form | default | values | what it does |\n| --- | --- | --- | --- | --- |\n"
    title = f"{text(f'group.{group}')} · {text(f'group.{group}', 'zh_CN')}"
    return f"\n## {title}\n\n{head}" + "".join(rows)


def row(param: Param) -> str:
    """Return a parameter's line of the table."""
    key = f"param.{param.name}"
    labels = f"{text(f'{key}.label')}<br>{text(f'{key}.label', 'zh_CN')}"
    if param.level == "basic":
        labels += "<br>*basic*"
    words = text(f"{key}.help")
    if f"{key}.warn" in catalogue("en"):
        words += " " + text(f"{key}.warn")
    cells = (f"`{param.name}`", labels, default(param), values(param), words)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def default(param: Param) -> str:
    """Return what a parameter is when nobody sets it."""
    if param.required:
        return "*required*"
    value: Any = param.default
    if value is None or value == ():
        return "—"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return f"`{number(value, param)}`"
    return f"`{value}`" if isinstance(value, str) else f"`{','.join(value)}`"


def number(value: Any, param: Param) -> str:
    """Return a value as the command line takes it, and no longer than people write it: 5e-5, 1048576."""
    if float(value).is_integer():
        return str(int(value))
    return np.format_float_scientific(value, trim="-", exp_digits=1) if param.scientific else f"{value:g}"


def values(param: Param) -> str:
    """Return which values a parameter takes, with their unit."""
    if param.choices:
        listed = ", ".join(f"`{choice}`" for choice in param.choices)
        return f"any of {listed}" if param.kind == "multi" else listed
    words = {
        "path": "path", "bool": "on, off", "lines": "lines of text", "weighted_paths": "lines of path=weight",
    }.get(param.kind)  # fmt: skip
    if words is not None:
        return words
    allowed = f"{range_of(param)} {param.unit}".strip()
    if param.warn_above is not None:
        allowed += f"<br>advised: at most {number(param.warn_above, param)}"
    return allowed


def range_of(param: Param) -> str:
    """Return the bounds in words: `1 to 1024`, `above 0 to 1`, `0 to below 1`."""
    low = "" if param.lo is None else ("above " if param.lo_open else "") + number(param.lo, param)
    high = "" if param.hi is None else ("below " if param.hi_open else "") + number(param.hi, param)
    return f"{low} to {high}" if low and high else low or high


def main() -> int:
    """Write the page, or tell whether it is up to date."""
    parser = argparse.ArgumentParser(description="Writes docs/parameters.md from the parameter table.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where the page is out of date")
    args = parser.parse_args()
    if not args.check:
        PAGE.write_text(page(), encoding="utf-8", newline="\n")
        return 0
    if PAGE.is_file() and PAGE.read_text("utf-8") == page():
        return 0
    print("docs/parameters.md is out of date: run scripts/generate_docs.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
