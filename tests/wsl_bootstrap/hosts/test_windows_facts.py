"""The Windows that reads its answers from a file, and what is derived from a snapshot."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path, PureWindowsPath

import pytest
from pydantic import ValidationError

from wsl_bootstrap.elevated import Action
from wsl_bootstrap.hosts import platform_windows
from wsl_bootstrap.hosts.windows_facts import Distribution, ScriptedWindows, WindowsSnapshot
from wsl_bootstrap.hosts.wsl_paths import PathError


def _scripted(folder: Path, **script: object) -> ScriptedWindows:
    (folder / "C").mkdir(exist_ok=True)
    file = folder / "facts.json"
    file.write_text(
        json.dumps({"facts": {"boot_id": "1"}, "drives": {"C": str(folder / "C")}, **script}), "utf-8"
    )
    return ScriptedWindows(file)


def test_features_follow_from_services_and_build() -> None:
    services = frozenset({"hns", "vmcompute"})
    assert WindowsSnapshot(boot_id="", build=19045, services=services).has_vm_platform
    assert not WindowsSnapshot(boot_id="", build=22631, services=services).has_vm_platform
    assert WindowsSnapshot(boot_id="", build=22631, services=services | {"vfpext"}).has_vm_platform
    assert not WindowsSnapshot(boot_id="", build=19045).has_wsl_feature
    assert WindowsSnapshot(boot_id="", build=19045, services=frozenset({"lxssmanager"})).has_wsl_feature
    assert WindowsSnapshot(boot_id="", build=22000).has_wsl_feature


def test_distributions_are_found_in_any_case_of_letters() -> None:
    one = Distribution(guid="{1}", name="Ubuntu", base_path="C:\\x", flags=7)
    assert WindowsSnapshot(boot_id="", distributions=(one,)).distribution("uBUNTU") == one
    assert not one.is_wsl2
    assert one.installed


def test_a_fact_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        _scripted(tmp_path, facts={"boot_id": "1", "colour": "blue"}).snapshot()


def test_rights_change_the_facts_and_a_restart_too(tmp_path: Path) -> None:
    windows = _scripted(
        tmp_path,
        elevation={"exit_code": 3010, "facts": {"components_pending": ["VirtualMachinePlatform"]}},
        restart={"facts": {"services": ["hns", "vmcompute", "vfpext"]}},
    )
    assert windows.elevate([Action.ENABLE_FEATURES], 1) == 3010
    assert windows.snapshot().components_pending == ("VirtualMachinePlatform",)
    windows.restart()
    found = windows.snapshot()
    assert (found.boot_id, found.components_pending, found.has_vm_platform) == ("1+", (), True)


def test_refused_rights_change_nothing(tmp_path: Path) -> None:
    windows = _scripted(tmp_path, elevation={"exit_code": 1223, "facts": {"build": 1}})
    assert windows.elevate([Action.ENABLE_FEATURES], 1) == 1223
    assert windows.snapshot().build == 26100


def test_a_program_may_play_the_helper(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'w').write(' '.join(sys.argv[2:])); sys.exit(3010 & 255)"
    command = [sys.executable, "-c", code, str(tmp_path / "said")]
    windows = _scripted(tmp_path, elevation={"command": command})
    assert windows.elevate([Action.ENABLE_FEATURES, Action.INSTALL_WSL], 30) == 3010
    assert (tmp_path / "said").read_text() == "enable-features install-wsl"
    for told, meant in ((1223 & 255, 1223), (50, 50), (0, 0)):
        windows = _scripted(tmp_path, elevation={"command": [sys.executable, "-c", f"exit({told})"]})
        assert windows.elevate([Action.ENABLE_FEATURES], 30) == meant


def test_files_and_drives(tmp_path: Path) -> None:
    windows = _scripted(
        tmp_path,
        compressed=["C:\\Packed"],
        volumes={"N": {"free_bytes": 5, "kind": "network"}, "C": {"free_bytes": 7}},
    )
    inside = tmp_path / "C" / "a b" / "x.txt"
    assert windows.windows_path(inside) == PureWindowsPath(r"C:\a b\x.txt")
    assert windows.local_path(PureWindowsPath(r"C:\a b\x.txt")) == inside
    with pytest.raises(PathError):
        windows.windows_path(Path("/etc/hostname"))
    assert windows.volume(PureWindowsPath(r"C:\Packed\deep")).compressed
    assert windows.volume(PureWindowsPath(r"C:\x")).free_bytes == 7
    assert windows.volume(PureWindowsPath(r"N:\x")).kind == "network"
    assert windows.volume(PureWindowsPath(r"Q:\x")).kind == "missing"
    assert windows.volume(PureWindowsPath(r"\\nas\x")).kind == "network"


def test_structures_have_the_sizes_that_windows_expects() -> None:
    assert ctypes.sizeof(platform_windows.OsVersion) == 284
    assert ctypes.sizeof(platform_windows.ShellExecuteInfo) == 112
    assert ctypes.sizeof(platform_windows.TimeOfDay) == 48
    assert ctypes.sizeof(platform_windows.HypervisorQuery) == 16
    assert ctypes.sizeof(platform_windows.FixedFileInfo) == 16
