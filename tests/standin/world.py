"""The computer that is played: one JSON file that is the registry, the services and the wishes of a test.

It is the file of `wsl_bootstrap.hosts.windows_facts` (`facts`, `drives`, …) with one more part, `standin`:

- `language`: "en" or "zh".
- `personality`: "stub", "inbox-old", "inbox-no-kernel"; "2.x" where WSL's package is installed.
- `obeys_utf8`: whether WSL_UTF8 is heeded; the inbox versions do not.
- `images`: root file systems that `--install NAME` "downloads" and `--list --online` shows, by name; without
  any, the list of distributions cannot be reached.
- `idle_s`: how long a distribution lives that no wsl.exe holds.
- `binds`: files and folders of this machine that every distribution sees, such as pip's configuration.
- `faults`: `{"command": "--import", "code": "Wsl/…", "once": true, "delay_s": 0}`; with `"after": true`,
  the work is done and then said to have failed. `{"command": "run", "crash_after_s": 2}` ends the machine.
- `calls`: every command line so far.
- `settings`: what `--manage` made of a distribution, by its id.
- `mounted`: disks that were attached, and the names under which they are mounted.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

FACTS_VARIABLE = "RUNNER_WINDOWS_FACTS"


class WslError(Exception):
    """A failure that wsl.exe reports: the key of its sentence, the path of its code, the exit code."""

    def __init__(self, code: str, key: str = "failed", exit_code: int = -1) -> None:
        super().__init__(code)
        self.code, self.key, self.exit_code = code, key, exit_code


class World:
    """Reads the file at each question and changes it under a lock, since several wsl.exe run at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def from_environment(cls) -> World:
        return cls(Path(os.environ[FACTS_VARIABLE]))

    def read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text("utf-8"))

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Give the contents to be changed in place; they are written when the block ends well."""
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            script = self.read()
            yield script
            new = self.path.with_suffix(f".{os.getpid()}.new")
            new.write_text(json.dumps(script, ensure_ascii=False, indent=1), "utf-8")
            new.replace(self.path)

    @property
    def own(self) -> dict[str, Any]:
        """The stand-in's part of the file."""
        return self.read().get("standin", {})

    @property
    def facts(self) -> dict[str, Any]:
        return self.read()["facts"]

    @property
    def personality(self) -> str:
        default = "2.x" if self.facts.get("wsl_package") else "stub"
        return self.own.get("personality", default)

    def has_machine(self) -> bool:
        """Whether a virtual machine can be started."""
        return {"hns", "vmcompute"} <= set(self.facts.get("services", ()))

    def distributions(self) -> list[dict[str, Any]]:
        return self.facts.get("distributions", [])

    def distribution(self, name: str | None, guid: str | None = None) -> dict[str, Any]:
        """Return a distribution by its name or its id, or the default one.

        Raises:
            WslError: there is none.
        """
        facts = self.facts
        known = facts.get("distributions", [])
        if name is None and guid is None:
            found = next((one for one in known if one["guid"] == facts.get("default_distribution")), None)
            if found is None:
                raise WslError("", "no_distribution")
            return found
        if guid is not None:
            found = next((one for one in known if one["guid"].strip("{}") == guid.strip("{}").lower()), None)
        else:
            found = next((one for one in known if one["name"].lower() == str(name).lower()), None)
        if found is None:
            raise WslError("Wsl/Service/WSL_E_DISTRO_NOT_FOUND", "not_found")
        return found

    def base_folder(self, distribution: dict[str, Any]) -> Path:
        """The folder of this machine that holds a distribution's disk."""
        return self.local_path(distribution["base_path"])

    def local_path(self, windows: str) -> Path:
        """Return the file of this machine that a Windows path names.

        Raises:
            WslError: its drive is not there.
        """
        path = PureWindowsPath(windows)
        drive = self.read().get("drives", {}).get(path.drive[:1].upper())
        if drive is None or not path.root:
            raise WslError("Wsl/ERROR_PATH_NOT_FOUND")
        return Path(drive, *path.parts[1:])

    def linux_path(self, windows: str) -> str:
        """Return what a Windows path is called inside; what is no Windows path stays as it is."""
        path = PureWindowsPath(windows)
        if not path.drive or not path.root:
            return windows
        return str(PurePosixPath("/mnt", path.drive[0].lower(), *path.parts[1:]))

    def windows_path(self, local: str) -> str | None:
        """Return the Windows name of a folder of this machine, or None where it is on no drive."""
        for letter, folder in self.read().get("drives", {}).items():
            if Path(local).is_relative_to(folder):
                return str(PureWindowsPath(f"{letter}:\\", *Path(local).relative_to(folder).parts))
        return None

    def memory_kib(self) -> int:
        """Return the memory of the machine inside: half of what there is, or what .wslconfig says."""
        facts = self.facts
        total = int(facts.get("memory_total_bytes", 32 * 10**9)) // 2
        config = self.local_path(facts.get("profile", "C:\\Users\\user")) / ".wslconfig"
        units = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
        section = ""
        try:
            lines = config.read_text("utf-8-sig", "replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            line = line.split("#")[0].strip()
            if line.startswith("["):
                section = line.strip("[]").lower()
            key, _, value = (part.strip() for part in line.partition("="))
            if section == "wsl2" and key.lower() == "memory" and value:
                number = value.rstrip("BbKkMmGgTt")
                total = int(float(number) * units.get(value[len(number) :].upper(), 1))
        return total // 1024

    def take_fault(self, command: str) -> dict[str, Any] | None:
        """Return the fault that meets a command, and forget it where it was to happen once."""
        found = next((f for f in self.own.get("faults", []) if f["command"] == command), None)
        if found is not None and found.get("once"):
            with self.changing() as script:
                script["standin"]["faults"].remove(found)
        return found
