"""A Windows host whose wsl.exe runs commands on this machine, with drive C: mounted below a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.hosts.windows_facts import ScriptedWindows

PLAYER = """#!/bin/sh
case "$1" in --*) echo "$@" >> {world}/managed; exit 0;; esac
case "$*" in *"cat /etc/wsl.conf") printf '[automount]\\nroot={world}/mnt\\n'; exit 0;; esac
while [ "$1" != -e ]; do shift; done
shift
exec "$@"
"""


@dataclass
class World:
    """The computer of a test: its host, drive C: and what wsl.exe was asked to manage."""

    folder: Path
    host: WindowsHost

    @property
    def drive(self) -> Path:
        return self.folder / "mnt" / "c"

    def managed(self) -> list[str]:
        path = self.folder / "managed"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", OWN_DISTRIBUTION)


@pytest.fixture
def foreign(tmp_path: Path) -> World:
    """The person has chosen a distribution of their own."""
    return make_world(tmp_path / "foreign", "Ubuntu")


def make_world(folder: Path, distribution: str) -> World:
    (folder / "mnt" / "c").mkdir(parents=True)
    player = folder / "wsl.exe"
    player.write_text(PLAYER.format(world=folder))
    player.chmod(0o755)
    facts = {"boot_id": "1", "distributions": [{"guid": "{1}", "name": distribution, "base_path": "C:\\wsl"}]}
    script = {"facts": facts, "drives": {"C": str(folder / "mnt" / "c")}}
    (folder / "facts.json").write_text(json.dumps(script), "utf-8")
    return World(folder, WindowsHost(ScriptedWindows(folder / "facts.json"), distribution, wsl=str(player)))
