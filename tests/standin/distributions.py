"""Distributions as wsl.exe makes, copies, changes and removes them.

A disk here is a folder and, beside it, a file `ext4.vhdx` of the size that the set-up tells people. One that
was exported as a disk is an archive by that name.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import Machine
from world import World, WslError

INSTALLING, INSTALLED = 3, 1
WSL2 = 0x8
FLAGS = 0x7  # what every distribution has: interop, PATH, drives
DISK = "ext4.vhdx"
FORMATS = {"tar": (), "tar.gz": ("-z",), "tar.xz": ("-J",), "vhd": ()}


def is_wsl2(distribution: dict[str, Any]) -> bool:
    return bool(distribution.get("flags", FLAGS | WSL2) & WSL2)


class Distributions:
    """What wsl.exe does to distributions, without a word of what it says."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world, self._machine = world, machine

    def register(
        self, name: str | None, folder: str | None, file: str | Path, version: int
    ) -> dict[str, Any]:
        """Unpack a root file system, from standard input for "-"; return the distribution.

        An entry that was begun and not ended stays, as in the registry.
        """
        if name is not None:
            self._require_free(name)
        if version == 2:
            self.require_machine("RegisterDistro/CreateVm")
        with self._archive(file) as archive:
            name = name or _default_name(archive)
            self._require_free(name)
            facts = self._world.facts
            local = facts.get("local_app_data", "C:\\Users\\user\\AppData\\Local")
            folder = folder or f"{local}\\wsl\\{uuid.uuid4()}"
            if any(one["base_path"].lower() == folder.lower() for one in self._world.distributions()):
                raise WslError("Wsl/Service/RegisterDistro/ERROR_FILE_EXISTS", "folder_taken")
            if folder in self._world.read().get("compressed", []):
                raise WslError("Wsl/Service/RegisterDistro/0xc03a001a")
            return self._unpack(name, folder, archive, version)

    def _unpack(self, name: str, folder: str, archive: Path, version: int) -> dict[str, Any]:
        base = self._world.local_path(folder)
        existed, root = base.is_dir(), base / "rootfs"
        entry = {"guid": f"{{{uuid.uuid4()}}}", "name": name, "base_path": folder, "state": INSTALLING}
        entry["flags"] = FLAGS | (WSL2 if version == 2 else 0)
        with self._world.changing() as script:
            script["facts"].setdefault("distributions", []).append(entry)
        root.mkdir(parents=True, exist_ok=True)
        unpack = ["tar", "-xpf", archive, "-C", root, "--numeric-owner"]
        done = subprocess.run(unpack, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0 or not (root / "etc" / "passwd").exists():
            shutil.rmtree(root if existed else base, ignore_errors=True)
            self._forget(entry["guid"])
            full = b"No space left" in done.stderr
            code = (
                "ERROR_DISK_FULL"
                if full
                else "WSL_E_IMPORT_FAILED"
                if done.returncode
                else "WSL_E_NOT_A_LINUX_DISTRO"
            )
            raise WslError(f"Wsl/Service/RegisterDistro/{code}")
        with open(base / DISK, "wb") as disk:
            disk.truncate(archive.stat().st_size)
        return self._finish(entry["guid"])

    def register_in_place(self, name: str, file: str) -> dict[str, Any]:
        """Use a disk where it lies, without a copy."""
        self._require_free(name)
        self.require_machine("RegisterDistro/CreateVm")
        disk = self._world.local_path(file)
        if disk.suffix.lower() != ".vhdx":
            raise WslError("Wsl/Service/RegisterDistro/WSL_E_IMPORT_FAILED")
        if not disk.is_file():
            raise WslError("Wsl/Service/RegisterDistro/MountVhd/HCS/ERROR_FILE_NOT_FOUND")
        root = disk.parent / "rootfs"
        if not root.is_dir():
            root.mkdir()
            if subprocess.run(["tar", "-xpf", disk, "-C", root], capture_output=True, check=False).returncode:
                root.rmdir()
                raise WslError("Wsl/Service/RegisterDistro/WSL_E_DISK_CORRUPTED")
        folder = file.rpartition("\\")[0]
        entry = {"guid": f"{{{uuid.uuid4()}}}", "name": name, "base_path": folder, "flags": FLAGS | WSL2}
        with self._world.changing() as script:
            script["facts"].setdefault("distributions", []).append({**entry, "vhd_file": disk.name})
        return self._finish(entry["guid"])

    def export(self, found: dict[str, Any], file: str, kind: str) -> None:
        """Write a distribution to a file, or to standard output for "-"; what fails leaves no file."""
        if kind not in FORMATS:
            raise WslError("Wsl/E_INVALIDARG")
        if kind == "vhd" and not is_wsl2(found):
            raise WslError("Wsl/Service/WSL_E_WSL2_NEEDED")
        self._machine.terminate(found)
        root = self._machine.root(found)
        if not root.is_dir():
            raise WslError("Wsl/Service/MountVhd/HCS/ERROR_FILE_NOT_FOUND")
        pack = ["tar", *FORMATS[kind], "-C", root, "--numeric-owner", "-c", "."]
        if file == "-":
            sys.stdout.flush()
            if subprocess.run(pack, stdin=subprocess.DEVNULL, check=False).returncode:
                raise WslError("Wsl/Service/WSL_E_EXPORT_FAILED")
            return
        target = self._world.local_path(file)
        try:
            with target.open("wb") as written:
                done = subprocess.run(pack, stdin=subprocess.DEVNULL, stdout=written, check=False)
        except OSError:
            raise WslError("Wsl/ERROR_PATH_NOT_FOUND") from None
        if done.returncode:
            target.unlink()
            raise WslError("Wsl/Service/WSL_E_EXPORT_FAILED")

    def unregister(self, found: dict[str, Any]) -> None:
        """Forget a distribution and remove its disk."""
        self._machine.terminate(found)
        base = self._world.base_folder(found)
        left = ("instance.json", "clients.lock", "boot.lock", "ready", "init.log")
        for name in ("rootfs", found.get("vhd_file", DISK), *left):
            path = base / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._forget(found["guid"])

    def move(self, found: dict[str, Any], folder: str) -> None:
        """Bring the disk of a distribution that is asleep into another folder."""
        self._require_asleep(found, "MoveDistro/")
        if any(one["base_path"].lower() == folder.lower() for one in self._world.distributions()):
            raise WslError("Wsl/Service/MoveDistro/ERROR_FILE_EXISTS", "folder_taken")
        if not is_wsl2(found):
            raise WslError("Wsl/Service/MoveDistro/E_NOTIMPL")
        base, target = self._world.base_folder(found), self._world.local_path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name in ("rootfs", found.get("vhd_file", DISK)):
            if (base / name).exists():
                shutil.move(base / name, target / name)
        self.change(found["guid"], base_path=folder)

    def resize(self, found: dict[str, Any], size_bytes: int) -> None:
        """Give the disk another size."""
        if not is_wsl2(found):
            raise WslError("Wsl/Service/WSL_E_WSL2_NEEDED")
        self._require_asleep(found)
        self.set(found["guid"], size_bytes=size_bytes)

    def set_sparse(self, found: dict[str, Any], sparse: bool, allow_unsafe: bool) -> None:
        """Let the disk give back what is deleted in it, or no longer."""
        if not is_wsl2(found):
            raise WslError("Wsl/Service/WSL_E_VM_MODE_INVALID_STATE")
        if sparse and not allow_unsafe:
            raise WslError("Wsl/Service/E_INVALIDARG", "sparse_off")
        self._require_asleep(found)
        self.set(found["guid"], sparse=sparse)

    def change(self, guid: str, **fields: Any) -> None:
        """Write facts of a distribution into the registry."""
        with self._world.changing() as script:
            for one in script["facts"]["distributions"]:
                if one["guid"] == guid:
                    one.update(fields)

    def set(self, guid: str, **wishes: Any) -> None:
        """Note what the set-up never reads: the default user, the size of the disk, whether it is sparse."""
        with self._world.changing() as script:
            script["standin"].setdefault("settings", {}).setdefault(guid, {}).update(wishes)

    def require_machine(self, context: str) -> None:
        """Refuse where no virtual machine can be started."""
        if not self._world.has_machine():
            raise WslError(f"Wsl/Service/{context}/HCS/HCS_E_HYPERV_NOT_INSTALLED")

    def _require_asleep(self, found: dict[str, Any], context: str = "") -> None:
        if self._machine.pid(found) is not None:
            raise WslError(f"Wsl/Service/{context}WSL_E_DISTRO_NOT_STOPPED", "not_stopped")

    def _require_free(self, name: str) -> None:
        if any(one["name"].lower() == name.lower() for one in self._world.distributions()):
            raise WslError("Wsl/Service/RegisterDistro/ERROR_ALREADY_EXISTS", "name_taken")

    def _finish(self, guid: str) -> dict[str, Any]:
        self.change(guid, state=INSTALLED)
        with self._world.changing() as script:
            facts = script["facts"]
            facts["default_distribution"] = facts.get("default_distribution") or guid
            return next(one for one in facts["distributions"] if one["guid"] == guid)

    def _forget(self, guid: str) -> None:
        with self._world.changing() as script:
            facts = script["facts"]
            facts["distributions"] = [one for one in facts["distributions"] if one["guid"] != guid]
            if facts.get("default_distribution") == guid:
                facts["default_distribution"] = next((one["guid"] for one in facts["distributions"]), None)

    @contextlib.contextmanager
    def _archive(self, file: str | Path) -> Iterator[Path]:
        if file == "-":
            with tempfile.NamedTemporaryFile(dir=self._world.path.parent) as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
                copy.flush()
                yield Path(copy.name)
            return
        path = file if isinstance(file, Path) else self._world.local_path(file)
        if not path.is_file():
            raise WslError("Wsl/ERROR_FILE_NOT_FOUND")
        yield path


def _default_name(archive: Path) -> str:
    """Return the name that a modern distribution has in itself."""
    for member in ("./etc/wsl-distribution.conf", "etc/wsl-distribution.conf"):
        read = subprocess.run(["tar", "-xOf", archive, member], capture_output=True, check=False)
        for line in read.stdout.decode("utf-8", "replace").splitlines():
            key, _, value = (part.strip() for part in line.partition("="))
            if key.lower() == "defaultname" and value:
                return value
    raise WslError("Wsl/Service/RegisterDistro/WSL_E_DISTRIBUTION_NAME_NEEDED", "name_needed")
