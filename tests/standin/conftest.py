"""A played computer for the tests that need one; it takes root, namespaces and a root file system."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # as for the programs here, which are run and not imported

import rootfs  # noqa: E402

WANTED = "RUNNER_ROOTFS_STORE"  # set by scripts/test-wsl, which makes the root file system first


class Computer:
    """A world's file, and its wsl.exe."""

    def __init__(self, folder: Path, **facts: Any) -> None:
        self.file, self.drive = folder / "facts.json", folder / "C"
        self._started: list[subprocess.Popen[bytes]] = []
        (self.drive / "Users" / "user").mkdir(parents=True)
        working = {"services": ["hns", "vmcompute", "vfpext", "wslservice"], "wsl_package": "2.6.1.0"}
        script = {
            "facts": {"boot_id": "1", "hypervisor_present": True, **working, **facts},
            "drives": {"C": str(self.drive)},
            "elevation": {"command": [str(HERE / "elevate")]},
            "restart": {"facts": {"services": working["services"]}},
            "standin": {"binds": rootfs.pip_binds()},
        }
        self.file.write_text(json.dumps(script), "utf-8")

    @property
    def env(self) -> dict[str, str]:
        played = {"RUNNER_WINDOWS_FACTS": str(self.file), "RUNNER_WSL_EXE": str(HERE / "wsl")}
        return {**os.environ, **played, "WSL_UTF8": "1"}

    def set(self, **own: Any) -> None:
        """Change the stand-in's part of the world."""
        script = json.loads(self.file.read_text("utf-8"))
        script["standin"].update(own)
        self.file.write_text(json.dumps(script), "utf-8")

    def script(self) -> dict[str, Any]:
        return json.loads(self.file.read_text("utf-8"))

    def facts(self) -> dict[str, Any]:
        return self.script()["facts"]

    def wsl(self, *arguments: str, env: dict[str, str] | None = None, stdin: bytes = b"") -> Any:
        """Run wsl.exe to its end."""
        return subprocess.run(
            [HERE / "wsl", *arguments], env={**self.env, **(env or {})}, input=stdin, capture_output=True,
            timeout=600, check=False,  # removing a distribution takes a while on a slow disk
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start wsl.exe; `close` ends it."""
        line, pipe = [HERE / "wsl", *arguments], subprocess.PIPE
        self._started.append(subprocess.Popen(line, env=self.env, stdin=pipe, stdout=pipe))
        return self._started[-1]

    def programs(self) -> list[str]:
        """What runs of the trainer's environment in this computer's distributions."""
        found, ours = [], str(self.file.parent.parent).replace(" ", r"\040").encode()
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is no process
                line = (process / "cmdline").read_bytes()
                inside = line.startswith(b"/opt/rwkv-lora-runner/venv/bin/python\0")
                if inside and ours in (process / "mountinfo").read_bytes():
                    found.append(line.replace(b"\0", b" ").decode())
        return found

    def wait_until_none_runs(self) -> None:
        """A distribution may take a moment to go."""
        deadline = time.monotonic() + 120
        while self.programs():
            assert time.monotonic() < deadline, self.programs()
            time.sleep(0.1)

    def close(self) -> None:
        """End what runs on the computer."""
        self.wsl("--shutdown")
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def computer(tmp_path: Path) -> Iterator[Callable[..., Computer]]:
    """Makes a computer by its facts; every distribution of it is ended afterwards."""
    made: list[Computer] = []

    def make(**facts: Any) -> Computer:
        made.append(Computer(tmp_path / f"世界 {len(made)}", **facts))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def debian() -> Path:
    """A real root file system; making one takes minutes, so the quick tests do without."""
    if not os.environ.get(WANTED):
        pytest.skip(f"needs root and a Debian root file system: run scripts/test-wsl, or set {WANTED}")
    return rootfs.debian()
