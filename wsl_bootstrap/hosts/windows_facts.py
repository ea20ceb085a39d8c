"""What Windows is and what it can be asked to do: the seam between the set-up and the system.

Two sides implement `Windows`: the real one (`platform_windows.py`), and one that reads its answers from a
JSON file, for tests and for a stand-in of wsl.exe. Nothing else knows which of them it talks to.

The file that `RUNNER_WINDOWS_FACTS` names holds `facts` (the fields of `WindowsSnapshot`) and may hold:

- `drives`: folder of this machine for each drive letter, `{"C": "/tmp/world/drive_c"}`;
- `volumes`: fields of `Volume` by drive letter; free space that is not given is the folder's own;
- `compressed`: Windows folders with the attribute that WSL's disk cannot live with;
- `elevation`: what becomes of a request for administrator rights: `exit_code`, and `facts`, the fields that
  change when it is 0 or 3010; or `command`, a program that is run with the names of the actions instead;
- `restart`: `facts`, the fields that change when Windows starts anew (`boot_id` changes by itself);
- `run_once`: written here: what Windows is to start at the next log-on.

The file is read at each question, so whoever plays Windows may rewrite it at any time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Literal, Protocol

import psutil
from pydantic import BaseModel, ConfigDict

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.elevated import CANCELLED, REBOOT_REQUIRED, Action
from wsl_bootstrap.files import write_whole
from wsl_bootstrap.hosts.base import HostError
from wsl_bootstrap.hosts.wsl_paths import PathError, drive_letter

FACTS_VARIABLE = "RUNNER_WINDOWS_FACTS"
_WSL2 = 0x8
_INSTALLED = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Distribution(_Record):
    """One distribution as the registry of the current user has it."""

    guid: str
    name: str
    base_path: str
    state: int = _INSTALLED  # 3 installing, 4 uninstalling, 5 converting
    flags: int = 0xF
    vhd_file: str = "ext4.vhdx"

    @property
    def is_wsl2(self) -> bool:
        """Whether it runs in the virtual machine, with a kernel and a GPU of its own."""
        return bool(self.flags & _WSL2)

    @property
    def installed(self) -> bool:
        """Whether its installation has ended."""
        return self.state == _INSTALLED


class WindowsSnapshot(_Record):
    """What the system is at one moment. None means that it could not be told."""

    build: int = 26100
    revision: int = 0
    server: bool = False
    edition: str = "Professional"  # as the registry writes it: EnterpriseS is LTSC, Core is Home
    machine: Literal["AMD64", "ARM64", "x86"] = "AMD64"
    boot_id: str
    cpu_count: int = 8
    memory_total_bytes: int = 32 * 10**9
    memory_available_bytes: int = 16 * 10**9
    services: frozenset[str] = frozenset()  # those that WSL needs and that exist, in lower case
    hypervisor_present: bool | None = None
    firmware_virtualization: bool | None = None
    wsl_exe: bool = True
    wsl_package: str | None = None  # version of the Store's or MSI's WSL, None without one
    distributions: tuple[Distribution, ...] = ()
    default_distribution: str | None = None  # guid
    components_pending: tuple[str, ...] = ()  # of WSL, enabled since the last start
    restart_pending: bool = False  # Windows itself wants one
    wsl_allowed: bool = True  # by policy
    store: bool = True
    account: Literal["own", "other", "system"] = "own"  # whose, seen from the person at the screen
    elevated: bool = False
    system_root: str = "C:\\Windows"
    profile: str = "C:\\Users\\user"
    local_app_data: str = "C:\\Users\\user\\AppData\\Local"
    proxy: str | None = None  # of the person's Windows settings

    @property
    def has_vm_platform(self) -> bool:
        """Whether Virtual Machine Platform is enabled, by the services that wsl.exe itself looks for."""
        needed = {"hns", "vmcompute"} | ({"vfpext"} if self.build >= 22621 else set())
        return needed <= self.services

    @property
    def needs_wsl_feature(self) -> bool:
        """Whether this Windows wants the optional feature besides; Windows 11 does without it."""
        return self.build < 22000

    @property
    def has_wsl_feature(self) -> bool:
        """Whether the optional feature is enabled, or not needed."""
        return not self.needs_wsl_feature or bool({"lxssmanager", "lxss"} & self.services)

    def distribution(self, name: str) -> Distribution | None:
        """Return the distribution of that name, in any case of letters, as Windows compares them."""
        return next((found for found in self.distributions if found.name.lower() == name.lower()), None)


class Volume(_Record):
    """The drive that a folder is on."""

    free_bytes: int
    kind: Literal["fixed", "removable", "network", "subst", "missing"] = "fixed"
    compressed: bool = False  # the folder, or the nearest that exists above it
    encrypted: bool = False


class Windows(Protocol):
    """Windows, as far as the set-up needs it."""

    def snapshot(self) -> WindowsSnapshot:
        """Look at everything that is cheap to look at, without rights and without starting a program."""
        ...

    def volume(self, folder: PureWindowsPath) -> Volume:
        """Return the drive that a folder is on, or would be on."""
        ...

    def local_path(self, path: PureWindowsPath) -> Path:
        """Return the path by which this process opens a Windows file."""
        ...

    def windows_path(self, path: Path) -> PureWindowsPath:
        """Return the Windows name of a file of this process.

        Raises:
            PathError: it has none.
        """
        ...

    def elevate(self, actions: Sequence[Action], timeout_s: float) -> int:
        """Have fixed actions carried out as administrator, after the system's own question; wait for the end.

        Returns:
            The helper's exit code; 1223 when the person said no.

        Raises:
            HostError: it did not end in time.
        """
        ...

    def resume_after_restart(self, argv: Sequence[str]) -> None:
        """Have a command of the current user started once, at the next log-on."""
        ...

    def restart(self) -> None:
        """Restart Windows at once. Only ever called because a person said so."""
        ...

    def keep_awake(self, on: bool) -> None:
        """Keep the system from sleeping, or no longer; the calling thread has to live meanwhile."""
        ...


class ScriptedWindows:
    """A Windows whose answers stand in a file. See the head of this module."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.awake = False

    def snapshot(self) -> WindowsSnapshot:
        """Return the file's facts."""
        return WindowsSnapshot.model_validate(self._read()["facts"])

    def volume(self, folder: PureWindowsPath) -> Volume:
        """Return what the file says of the drive, or what this machine says of the drive's folder."""
        script, letter = self._read(), drive_letter(folder)
        drive = self._drives().get(letter)
        given = script.get("volumes", {}).get(letter, {})
        if drive is None and not given:
            return Volume(free_bytes=0, kind="network" if not letter else "missing")
        compressed = any(
            folder.is_relative_to(PureWindowsPath(path)) for path in script.get("compressed", ())
        )
        free_bytes = psutil.disk_usage(drive).free if drive and "free_bytes" not in given else 0
        return Volume.model_validate({"free_bytes": free_bytes, "compressed": compressed, **given})

    def local_path(self, path: PureWindowsPath) -> Path:
        """Return the file below its drive's folder."""
        drive = self._drives().get(drive_letter(path))
        if drive is None:
            raise PathError("path_on_network", path)
        return Path(drive, *path.parts[1:])

    def windows_path(self, path: Path) -> PureWindowsPath:
        """Return the name on the drive whose folder holds the file most closely."""
        drives = sorted(self._drives().items(), key=lambda item: len(item[1]), reverse=True)
        for letter, folder in drives:
            if path.absolute().is_relative_to(folder):
                return PureWindowsPath(f"{letter}:\\", *path.absolute().relative_to(folder).parts)
        raise PathError("path_on_network", PureWindowsPath(str(path)))

    def elevate(self, actions: Sequence[Action], timeout_s: float) -> int:
        """Answer as the script says, and let the system change as it says."""
        script = self._read().get("elevation", {})
        if command := script.get("command"):
            try:
                done = subprocess.run(
                    [*command, *(action.value for action in actions)],
                    stdin=subprocess.DEVNULL,
                    timeout=timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise HostError(
                    make_code("command_timeout", command=command[0], timeout_s=timeout_s), retryable=True
                ) from None
            # Exit codes have eight bits here: those of Windows that do not fit are told by their low byte.
            wide = {code & 0xFF: code for code in (REBOOT_REQUIRED, CANCELLED)}
            return wide.get(done.returncode, done.returncode)
        code = script.get("exit_code", 0)
        if code in (0, REBOOT_REQUIRED):
            self._change(script.get("facts", {}))
        return code

    def resume_after_restart(self, argv: Sequence[str]) -> None:
        """Write it down, in place of what was written before, as in the registry."""
        script = self._read()
        script["run_once"] = list(argv)
        write_whole(self._path, json.dumps(script, ensure_ascii=False, indent=1))

    @property
    def run_once(self) -> list[tuple[str, ...]]:
        """What is to be started at the next log-on: one command or none."""
        return [tuple(argv) for argv in [self._read().get("run_once")] if argv]

    def restart(self) -> None:
        """Let the system change as the script says, and start anew."""
        boot_id = self.snapshot().boot_id
        self._change(
            {
                "boot_id": boot_id + "+",
                "components_pending": [],
                "restart_pending": False,
                **self._read().get("restart", {}).get("facts", {}),
            }
        )

    def keep_awake(self, on: bool) -> None:
        """Remember it."""
        self.awake = on

    def _drives(self) -> dict[str, str]:
        """Return this process's folder for each letter: on Windows (under Wine) that is the drive itself."""
        drives = self._read().get("drives", {})
        return {letter: f"{letter}:\\" for letter in drives} if sys.platform == "win32" else drives

    def _read(self) -> dict:
        return json.loads(self._path.read_text("utf-8"))

    def _change(self, facts: dict) -> None:
        script = self._read()
        script["facts"] |= facts
        write_whole(self._path, json.dumps(script, ensure_ascii=False, indent=1))
