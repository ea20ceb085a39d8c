"""What the app is made of, as the installed packages tell it: versions and licences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

OURS = "rwkv-lora-runner"
_CLASSIFIER = "License :: OSI Approved :: "
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
# Their metadata give the whole text of the licence, or a name that says less than this one.
_KNOWN = {"pyside6-essentials": "LGPL-3.0-only"}
_FOR_TESTS = re.compile(r"""extra\s*==\s*["']dev["']""")


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package; `licence` is "" where its metadata do not name one."""

    name: str
    version: str
    licence: str


def packages() -> list[Package]:
    """The app and what it asks for, as far as that is installed."""
    try:
        needed = [line for line in metadata.requires(OURS) or [] if not _FOR_TESTS.search(line)]
    except metadata.PackageNotFoundError:
        needed = []
    names = dict.fromkeys((OURS, *(match.group() for line in needed if (match := _NAME.match(line)))))
    return list(_installed(names))


def _installed(names: dict[str, None]) -> Iterator[Package]:
    for name in names:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        yield Package(found.metadata["Name"] or name, found.version, licence_of(found.metadata))


def licence_of(data: metadata.PackageMetadata) -> str:
    """The licence by its short name: an SPDX expression, else classifiers, else a one-line field."""
    name, expression, text = (_field(data, field) for field in ("Name", "License-Expression", "License"))
    if known := _KNOWN.get(name.lower().replace("_", "-")):
        return known
    classifiers = data.get_all("Classifier") or ()
    named = [line.removeprefix(_CLASSIFIER) for line in classifiers if line.startswith(_CLASSIFIER)]
    return expression or ", ".join(named) or (text if len(text) <= 60 and "\n" not in text else "")


def _field(data: metadata.PackageMetadata, name: str) -> str:
    return next(iter(data.get_all(name) or ()), "").strip()
