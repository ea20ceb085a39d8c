"""What every test starts from: no screen, one torch thread, and a home folder that is thrown away.

The environment is set while this file is imported, before any test module can import Qt or torch.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast examples come says how busy the machine is, and nothing of what is tested.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

_home = tempfile.TemporaryDirectory(prefix="rwkv-lora-runner-tests-")

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["OMP_NUM_THREADS"] = "1"  # two busy processes with two threads each are many times slower
os.environ["HOME"] = _home.name
os.environ.pop("RUNNER_HOME", None)  # would lead past the folders below
for _variable, _folder in (
    ("XDG_CONFIG_HOME", "config"),
    ("XDG_DATA_HOME", "data"),
    ("XDG_CACHE_HOME", "cache"),
    ("XDG_STATE_HOME", "state"),
    ("XDG_RUNTIME_DIR", "runtime"),
    ("LOCALAPPDATA", "local"),
    ("APPDATA", "roaming"),
):
    _path = Path(_home.name, _folder)
    _path.mkdir(mode=0o700)  # Qt refuses a runtime folder that others can read
    os.environ[_variable] = str(_path)


def pytest_unconfigure() -> None:
    """Remove the home folder of this session."""
    _home.cleanup()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KB; needs the rights to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
