"""What has to outlive the program: attempts under way, the boot in which a restart was asked for, and what
costs the person agreed to before it.

That a step is satisfied is never written down; a probe says that, every time.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wsl_bootstrap.files import write_whole

LOG = logging.getLogger(__name__)
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One step's record. `attempts` counts the series under way, 0 when none is."""

    attempts: int = 0
    reboot_boot_id: str | None = None


@dataclass(frozen=True)
class Costs:
    """What a person agreed to for one step. `notices` are the ids of what was said besides."""

    admin: bool
    reboot: bool
    download_bytes: int
    disk_bytes: int
    notices: tuple[str, ...] = ()


class Journal:
    """A small JSON file, replaced as a whole at each change.

    A file that cannot be understood is set aside and an empty one begun: everything in it is a help,
    nothing in it is needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._agreed: dict[str, Costs] = {}
        self._read()

    def attempts(self, step_id: str) -> int:
        """Return how many attempts the series under way has begun."""
        return self._entry(step_id).attempts

    def begin_attempt(self, step_id: str) -> int:
        """Record that an attempt begins, before it does, and return its number from 1."""
        entry = self._entry(step_id)
        self._put(step_id, replace(entry, attempts=entry.attempts + 1))
        return entry.attempts + 1

    def end_series(self, step_id: str) -> None:
        """Record that no attempt is under way any more, however the last one ended."""
        self._put(step_id, replace(self._entry(step_id), attempts=0))

    def ask_reboot(self, step_id: str, boot_id: str) -> None:
        """Record that the step's work shows only after the boot `boot_id` has ended."""
        self._put(step_id, Entry(reboot_boot_id=boot_id))

    def awaits_reboot(self, step_id: str, boot_id: str) -> bool:
        """Return whether a restart was asked for in this very boot, so that it has not happened yet."""
        return self._entry(step_id).reboot_boot_id == boot_id

    def agree(self, agreed: Mapping[str, Costs]) -> None:
        """Record what the person agreed to, by step, so that nobody is asked again after a restart."""
        if dict(agreed) != self._agreed:
            self._agreed = dict(agreed)
            self._keep()

    def agreed(self) -> dict[str, Costs]:
        """Return what was agreed to before a restart, by step."""
        return dict(self._agreed)

    def clear(self, step_id: str) -> None:
        """Forget the step: it is settled."""
        self._put(step_id, Entry())

    def _entry(self, step_id: str) -> Entry:
        return self._entries.get(step_id, Entry())

    def _put(self, step_id: str, entry: Entry) -> None:
        if entry == self._entry(step_id):
            return
        self._entries[step_id] = entry
        self._keep()

    def _keep(self) -> None:
        try:
            self._write()
        except OSError as problem:  # a full disk is told by its own step; it must not end this one
            LOG.warning("journal %s could not be written: %s", self._path, problem)

    def _read(self) -> None:
        try:
            stored = json.loads(self._path.read_text("utf-8"))
            if stored["version"] != _VERSION:
                raise ValueError(f"version {stored['version']}")
            self._entries = {step_id: _entry_from(record) for step_id, record in stored["steps"].items()}
            self._agreed = {
                step_id: _costs_from(record) for step_id, record in stored.get("agreed", {}).items()
            }
        except FileNotFoundError:
            pass
        except OSError as problem:
            LOG.warning("journal %s could not be read: %s", self._path, problem)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            aside = self._path.with_suffix(self._path.suffix + ".unreadable")
            LOG.warning("journal %s is not understood (%s); kept as %s", self._path, problem, aside.name)
            os.replace(self._path, aside)
            self._entries, self._agreed = {}, {}

    def _write(self) -> None:
        kept = {step_id: asdict(entry) for step_id, entry in self._entries.items() if entry != Entry()}
        record: dict[str, object] = {"version": _VERSION, "steps": kept}
        if self._agreed:
            record["agreed"] = {step_id: asdict(costs) for step_id, costs in self._agreed.items()}
        write_whole(self._path, json.dumps(record, indent=1))


def _costs_from(record: dict[str, object]) -> Costs:
    kinds = {"admin": bool, "reboot": bool, "download_bytes": int, "disk_bytes": int, "notices": list}
    if record.keys() != kinds.keys() or any(not isinstance(record[name], kinds[name]) for name in kinds):
        raise TypeError("what was agreed to has fields of the wrong type")
    return Costs(**{**record, "notices": tuple(map(str, record["notices"]))})  # type: ignore[arg-type]


def _entry_from(record: dict[str, object]) -> Entry:
    attempts, boot_id = record["attempts"], record["reboot_boot_id"]
    if not isinstance(attempts, int) or not isinstance(boot_id, str | None):
        raise TypeError("an entry has fields of the wrong type")
    return Entry(attempts, boot_id)
