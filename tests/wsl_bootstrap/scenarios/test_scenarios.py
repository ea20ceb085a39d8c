"""The table of what a person's computer may be, and how setting it up ends there.

Each row is walked in English and, with the UTF-16 of a wsl.exe that knows no better, in Chinese; and again on
every Windows that it can happen on. It ends ready, or at a step with a code that has a sentence and a remedy
in both languages.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PureWindowsPath
from typing import Any

import psutil
import pytest

import wsl_bootstrap
from wsl_bootstrap import distribution
from wsl_bootstrap.codes import REGISTRY
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.mirrors import Mirror
from wsl_bootstrap.options import SetupOptions
from wsl_bootstrap.texts import CODE_PARTS, LANGUAGES, code_text, load_texts
from wsl_bootstrap.wsl_errors import _BY_CODE

READY = "ready"
OFF: dict[str, Any] = {"services": [], "hypervisor_present": False, "firmware_virtualization": True}
WIN10: dict[str, Any] = {"build": 19045}
LTSC: dict[str, Any] = {"build": 19044, "edition": "EnterpriseS", "store": False}
SERVER: dict[str, Any] = {"build": 20348, "server": True, "edition": "ServerStandard", "store": False}
UBUNTU, OLD = {"name": "Ubuntu-22.04"}, {"name": "Ubuntu", "flags": 7}
DOCKER = {"name": "docker-desktop"}
DONE = ("packages", "venv", "torch", "trainer")


@dataclass(frozen=True)
class Row:
    """One computer and how it ends. `own`: what our own distribution has in it, None for no distribution."""

    name: str
    ends: str  # READY, or "step: code"
    facts: dict[str, Any] = field(default_factory=dict)
    others: tuple[dict[str, Any], ...] = ()
    own: tuple[str, ...] | None = None
    consents: int | None = None
    prompts: int = 0
    restarts: int = 0
    presses: int = 1
    world: dict[str, Any] = field(default_factory=dict)


def row(name: str, ends: str, **fields: Any) -> Row:
    """What is no field of the row is a setting of the computer."""
    known = {"facts", "others", "own", "consents", "prompts", "restarts", "presses"}
    world = {key: fields.pop(key) for key in list(fields) if key not in known}
    return Row(name, ends, world=world, **fields)


def choose(**choices: Any) -> SetupOptions:
    return SetupOptions(**choices)


TABLE = [
    # Windows as it comes. One press, one question, one prompt, one restart.
    row("Windows 11, nothing there", READY, facts=OFF, wsl="stub", consents=1, prompts=1, restarts=1),
    row(
        "Windows 10, nothing there",
        READY,
        facts={**WIN10, **OFF},
        wsl="stub",
        consents=1,
        prompts=1,
        restarts=1,
    ),
    row("Windows 10, inbox WSL", READY, facts=WIN10, wsl="inbox-old", uac=0, consents=1, prompts=1),
    row("Windows 10, no kernel", READY, facts=WIN10, wsl="inbox-no-kernel", uac=0, consents=1, prompts=1),
    row("LTSC 2021, no Store", READY, facts={**LTSC, **OFF}, wsl="stub", consents=1, prompts=1, restarts=1),
    row(
        "Server 2022, no Store", READY, facts={**SERVER, **OFF}, wsl="stub", consents=1, prompts=1, restarts=1
    ),
    row("Server 2019", "windows_version: windows_too_old", facts={**SERVER, "build": 17763}, wsl="inbox-old"),
    row("LTSC 2019", "windows_version: windows_too_old", facts={**LTSC, "build": 17763}),
    row("32 bits", "windows_version: windows_32bit", facts={"machine": "x86"}),
    row("Windows 11 with WSL 2", READY, consents=1),
    row("WSL too old", READY, wsl="2.0.9.0", uac=0, consents=1, prompts=1),
    row("ARM", READY, facts={"machine": "ARM64"}, consents=1),
    # Who and what may
    row("another account", "windows_version: account_other", facts={"account": "other"}),
    row("a service", "windows_version: account_is_system", facts={"account": "system"}),
    row("forbidden by policy", "windows_version: wsl_policy_off", facts={"wsl_allowed": False}),
    row("as administrator", READY, facts={"elevated": True}, consents=1),
    # Virtualization
    row(
        "off in the firmware",
        "virtualization: firmware_virtualization_off",
        facts={**OFF, "firmware_virtualization": False},
    ),
    row(
        "hypervisor not started",
        "virtualization: hypervisor_not_started",
        facts={"hypervisor_present": False, "firmware_virtualization": True},
    ),
    row("neither can be told", READY, facts={"hypervisor_present": None}, consents=1),
    # Administrator rights
    row(
        "UAC refused",
        "wsl_feature: elevation_refused",
        facts=OFF,
        wsl="stub",
        uac=1223,
        consents=1,
        prompts=1,
    ),
    row("dism: not supported", "wsl_feature: feature_unsupported", facts=OFF, wsl="stub", uac=50, prompts=1),
    row("dism: another error", "wsl_feature: feature_failed", facts=OFF, wsl="stub", uac=87, prompts=1),
    row("dism: 0, nothing done", "wsl_feature: no_effect", facts=OFF, wsl="stub", uac=0, prompts=1),
    row(
        "features on, package not fetched",  # the one more question is for one more prompt
        "wsl_version: wsl_update_failed",
        facts=OFF,
        wsl="stub",
        package_fails=True,
        consents=2,
        prompts=2,
        restarts=1,
    ),
    row("update refused", "wsl_version: elevation_refused", wsl="2.0.9.0", uac=1223, prompts=1),
    row("update fails", "wsl_version: wsl_update_failed", wsl="2.0.9.0", uac=0xFFFFFFFF, prompts=1),
    row("no wsl.exe", "wsl_version: wsl_exe_missing", facts={"wsl_exe": False}, wsl="stub"),
    # Distributions
    row("only WSL 1", READY, others=(OLD,), consents=1),
    row("docker-desktop is the default", READY, others=(DOCKER,), consents=1),
    row("Ubuntu on WSL 2 stays as it is", READY, others=(UBUNTU,), consents=1),
    row("Ubuntu chosen", READY, others=(UBUNTU,), options=choose(distribution="Ubuntu-22.04"), consents=1),
    row(
        "Ubuntu chosen, old kind",
        "distro: distro_is_wsl1",
        others=(OLD,),
        options=choose(distribution="Ubuntu"),
    ),
    row("Ubuntu chosen, gone", "distro: distro_not_there", options=choose(distribution="Ubuntu-22.04")),
    row("ours, complete", READY, own=DONE, consents=0),
    row("ours, without its trainer", READY, own=DONE[:-1], consents=0),
    row("ours, without a network", READY, own=DONE, consents=0, indexes=()),
    row("ours, half-made", READY, others=({"name": OWN_DISTRIBUTION, "state": 3},), consents=1),
    row("ours, made but not marked", READY, others=({"name": OWN_DISTRIBUTION},), consents=1),
    row(
        "ours, does not start",
        "distro: distro_broken",
        own=DONE,
        faults={"inside": ["Wsl/Service/0x80001234"]},
    ),
    row("ours, bare", READY, consents=1, python=False),
    row("launch hangs", "distro: distro_broken", own=DONE, faults={"inside": [-1000]}),
    # Network
    row("no network", "network: network_unreachable", indexes=()),
    row(
        "dead mirror",
        "network: mirror_unreachable",
        indexes=("ustc",),
        options=choose(mirror="aliyun", rootfs="F"),
    ),
    row(
        "own mirror",
        READY,
        indexes=("custom",),
        options=choose(mirror="custom", custom=Mirror("http://x/s")),
        consents=1,
    ),
    row(
        "proxy of Windows only",
        "network: proxy_only_on_windows",
        indexes=(),
        facts={"proxy": "127.0.0.1:7890"},
    ),
    row("proxy given", READY, options=choose(proxy="http://10.0.0.1:7890"), consents=1),
    row(
        "no way to the image",
        "distro: wsl_download_unreachable",
        faults={"--install": ["Wsl/InstallDistro/WININET_E_NAME_NOT_RESOLVED"]},
    ),
    row(
        "the image's connection breaks once",
        READY,
        faults={"--install": ["Wsl/InstallDistro/WININET_E_TIMEOUT", 0]},
        consents=1,
    ),
    # Disk and folder
    row("disk full", "distro: disk_full", free_bytes=10**9),
    row("full while importing", "distro: windows_disk_full", faults={"--install": ["Wsl/ERROR_DISK_FULL"]}),
    row("full later", "disk: disk_full", own=(), free_bytes=5 * 10**8),
    row("compressed folder", "distro: folder_compressed", compressed=("C:\\Users",)),
    row("encrypted folder", "distro: folder_encrypted", volume={"encrypted": True}),
    row("network folder", "distro: folder_not_local", options=choose(folder="\\\\nas\\wsl")),
    row("a drive that is not there", "distro: folder_not_local", options=choose(folder="Q:\\wsl")),
    row("a folder of choice", READY, options=choose(folder="C:\\wsl 训练"), consents=1),
    row("a root file system of choice", READY, options=choose(rootfs="F"), consents=1),
    row("a file that is gone", "distro: rootfs_missing", options=choose(rootfs="C:\\gone.tar.gz")),
    row("a file that is no archive", "distro: rootfs_not_archive", options=choose(rootfs="TEXT")),
    # The machine inside
    row(
        "VM crashes while installing",
        "distro: vm_crashed",
        faults={"--install": ["Wsl/Service/E_UNEXPECTED"]},
    ),
    row(
        "VM crashes at launch",
        "distro: vm_crashed",
        own=DONE,
        faults={"inside": ["Wsl/Service/E_UNEXPECTED"]},
    ),
    row("memory limit is tiny", READY, own=DONE, inside_kib=10**6, consents=1),
    row(
        "too little memory anywhere",
        "memory: memory_too_small",
        own=DONE,
        inside_kib=10**6,
        facts={"memory_total_bytes": 2 * 10**9},
    ),
    # GPU
    row("GPU works", READY, gpu="works", consents=1),
    row("GPU on Windows only", READY, gpu="no dxg", own=DONE, consents=0),
]


@pytest.mark.parametrize(("language", "utf8"), [("en", True), ("zh", False)], ids=["en-utf8", "zh-utf16"])
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_how_it_ends(
    case: Row,
    language: str,
    utf8: bool,
    make_world: Callable[..., Any],
    tmp_path: Path,
    record_property: Callable[[str, Any], None],
) -> None:
    world = _world(case, make_world, tmp_path, language=language, obeys_utf8=utf8)
    outcome = world.walk(case.presses)
    status = outcome.obstacle
    told = READY if status is None else f"{status.step_id}: {status.code.id if status.code else ''}"
    assert told == case.ends
    _record(record_property, case.name, status)
    if case.consents is not None:
        assert outcome.consents == case.consents
    assert (outcome.prompts, outcome.restarts) == (case.prompts, case.restarts)
    if status is not None:
        _has_sentence_and_remedy(status.code)
    _others_are_left_alone(world, case)


@pytest.mark.parametrize("system", [WIN10, LTSC, SERVER], ids=["Windows 10", "LTSC 2021", "Server 2022"])
@pytest.mark.parametrize(
    "case", [case for case in TABLE if "build" not in case.facts], ids=lambda case: case.name
)
def test_it_ends_so_on_every_windows(
    case: Row,
    system: dict[str, Any],
    make_world: Callable[..., Any],
    tmp_path: Path,
    record_property: Callable[[str, Any], None],
) -> None:
    elsewhere = replace(case, facts={**system, **case.facts})
    test_how_it_ends(elsewhere, "zh", True, make_world, tmp_path, record_property)


# Every error that wsl.exe is known to end with, as its name and as its number, and what it comes down to.
ERRORS = {
    "virtualization_off": "0x80370102 HCS_E_HYPERV_NOT_INSTALLED HCS_E_SERVICE_NOT_AVAILABLE"
    " HCS/ERROR_NOT_SUPPORTED HCS/0x80070032",
    "vm_no_answer": "0x80370109 HCS_E_CONNECTION_TIMEOUT",
    "vm_feature_blocked": "0x80370114",
    "wsl_kernel_missing": "0x1bc 0x800701bc",
    "wsl_feature_off": "0x8007019e 0x80040321 WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED",
    "vm_platform_off": "0x8004032d WSL_E_VIRTUAL_MACHINE_PLATFORM_REQUIRED",
    "wsl_package_broken": "0x80040154 REGDB_E_CLASSNOTREG CreateVm/HCS/ERROR_FILE_NOT_FOUND HCS/0x80070002",
    "wsl_path_missing": "0x80070003 ERROR_PATH_NOT_FOUND",
    "distro_disk_missing": "MountVhd/ERROR_FILE_NOT_FOUND MountVhd/HCS/ERROR_FILE_NOT_FOUND"
    " MountDisk/ERROR_FILE_NOT_FOUND",
    "distro_disk_compressed": "0xc03a001a",
    "wsl_bad_state": "0x8000000d E_ILLEGAL_STATE_CHANGE",
    "wsl_legacy_console": "0x80040306 WSL_E_CONSOLE",
    "distro_gone": "0x80040302 WSL_E_DISTRO_NOT_FOUND",
    "distro_no_default": "0x80040301 WSL_E_DEFAULT_DISTRO_NOT_FOUND",
    "distro_user_missing": "0x80040308 WSL_E_USER_NOT_FOUND",
    "distro_import_failed": "0x8004030b WSL_E_IMPORT_FAILED",
    "rootfs_not_linux": "0x80040326 WSL_E_NOT_A_LINUX_DISTRO",
    "wsl_component_failed": "0x80040329 WSL_E_INSTALL_COMPONENT_FAILED",
    "wsl_windows_too_old": "0x80040327 WSL_E_OS_NOT_SUPPORTED",
    "distro_disk_damaged": "0x8004032f WSL_E_DISK_CORRUPTED",
    "vm_crashed": "0x80040332 WSL_E_VM_CRASHED 0x8000ffff E_UNEXPECTED",
    "account_system": "0x8004032e WSL_E_LOCAL_SYSTEM_NOT_SUPPORTED",
    "wsl_mixed_rights": "0x8004030f WSL_E_LOWER_INTEGRITY 0x80040310 WSL_E_HIGHER_INTEGRITY",
    "distro_name_taken": "0x800700b7 ERROR_ALREADY_EXISTS",
    "wsl_download_unreachable": "0x80072ee7 WININET_E_NAME_NOT_RESOLVED 0x80072efd WININET_E_CANNOT_CONNECT"
    " 0x80072ee2 WININET_E_TIMEOUT 0x80072746 0x80072eff WININET_E_CONNECTION_RESET",
    "windows_disk_full": "0x80070070 ERROR_DISK_FULL",
    "download_damaged": "0x80096010 TRUST_E_BAD_DIGEST",
    "wsl_forbidden": "0x800704ec ERROR_ACCESS_DISABLED_BY_POLICY",
}


# Met where it would be: at the launch of a distribution that is there.
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("error", "expected"), [(error, code) for code, errors in ERRORS.items() for error in errors.split()]
)
def test_every_known_error_ends_in_its_code(
    error: str,
    expected: str,
    language: str,
    make_world: Callable[..., Any],
    record_property: Callable[[str, Any], None],
) -> None:
    token = f"Wsl/Service/CreateInstance/{error}"
    world = make_world(faults={"inside": [token]}, language=language, obeys_utf8=False)
    world.finish_own(*DONE)
    status = world.walk().obstacle
    assert (status.step_id, status.code.id, status.code.args["token"]) == ("distro", expected, token)
    _has_sentence_and_remedy(status.code)
    _record(record_property, f"wsl.exe: …/{error}", status)


# What an old wsl.exe ends with instead of a path, and what nobody has seen yet.
@pytest.mark.parametrize(
    ("exit_code", "expected"), [(0xFFFFFE44, "wsl_kernel_missing"), (0xFFFFFFFF, "distro_broken")]
)
def test_every_known_exit_code_ends_in_its_code(
    exit_code: int,
    expected: str,
    make_world: Callable[..., Any],
    record_property: Callable[[str, Any], None],
) -> None:
    world = make_world(faults={"inside": [exit_code]})
    world.finish_own(*DONE)
    status = world.walk().obstacle
    assert (status.step_id, status.code.id) == ("distro", expected)
    _has_sentence_and_remedy(status.code)
    _record(record_property, f"wsl.exe: exit code 0x{exit_code:08x}", status)


def test_the_table_of_errors_is_whole() -> None:
    listed = {error for errors in ERRORS.values() for error in errors.split()}
    assert set(_BY_CODE) <= listed


def test_a_tiny_limit_is_named_where_the_machine_does_not_answer(make_world: Callable[..., Any]) -> None:
    world = make_world(
        faults={"inside": ["Wsl/Service/CreateInstance/CreateVm/HCS/HCS_E_CONNECTION_TIMEOUT"]}
    )
    world.finish_own(*DONE)
    config = world.folder / "C" / "Users" / "user" / ".wslconfig"
    config.write_text("[wsl2]\nmemory=4096\n", "utf-8")
    code = world.walk().obstacle.code
    assert (code.id, code.args["value"]) == ("wslconfig_odd", "4096")
    config.write_text("[wsl2]\nmemory=8GB\n", "utf-8")
    assert world.walk().obstacle.code.id == "vm_no_answer"


def test_a_limit_is_raised_and_the_rest_of_the_file_kept(make_world: Callable[..., Any]) -> None:
    world = make_world(inside_kib=10**6)
    world.finish_own(*DONE)
    config = world.folder / "C" / "Users" / "user" / ".wslconfig"
    config.parent.mkdir(parents=True, exist_ok=True)
    before = (
        b"# mine\r\n[wsl2]\r\nMemory=1GB # small\r\nswap=0\r\n[experimental]\r\nautoMemoryReclaim=gradual\r\n"
    )
    config.write_bytes(before)
    assert world.walk().obstacle is None
    assert config.read_bytes() == before.replace(b"Memory=1GB # small", b"memory=14GB")
    assert config.with_name(".wslconfig.bak").read_bytes() == before
    assert ("wsl.exe", "--shutdown") in world.calls


def test_only_a_limit_that_is_to_be_raised_is_asked_about(make_world: Callable[..., Any]) -> None:
    for inside_kib, noticed in ((16 * 2**20, False), (10**6, True)):
        world = make_world(inside_kib=inside_kib)
        world.add(OWN_DISTRIBUTION)  # made, and not yet finished: later steps can only be forecast
        engine = world.engine()
        engine.probe_all()
        notices = [code.id for plan in engine.forecast() for code in plan.notices]
        assert notices == (["wsl_restart_stops"] if noticed else [])


def test_an_image_comes_from_a_mirror_and_is_not_kept(make_world: Callable[..., Any], tmp_path: Path) -> None:
    image = b"\x1f\x8b image"
    served = tmp_path / "mirror"
    served.mkdir()
    (served / "ubuntu-24.04.3-wsl-amd64.wsl").write_bytes(image)
    line = f"{hashlib.sha256(image).hexdigest()} *ubuntu-24.04.3-wsl-amd64.wsl\n"
    (served / "SHA256SUMS").write_text(line, "ascii")
    with _server(served) as url:
        good = choose(mirror="custom", custom=Mirror(images=url))
        world = make_world(options=good, indexes=("custom",))
        assert world.walk().obstacle is None
        (imported,) = [call for call in world.calls if call[1] == "--import"]
        assert imported[2:4] == (OWN_DISTRIBUTION, "C:\\Users\\user\\AppData\\Local\\RwkvLoraRunner\\wsl")
        file = world.windows.local_path(PureWindowsPath(imported[4]))
        assert not file.exists()
        (served / "SHA256SUMS").write_text(line.replace(line[:8], "0" * 8), "ascii")
        distribution.remove(world.host())
        world.calls.clear()
        assert world.walk().obstacle.code.id == "download_mismatch"
        assert not any("--import" in call for call in world.calls)


def test_our_distribution_is_removed_with_what_it_frees(make_world: Callable[..., Any]) -> None:
    world = make_world()
    world.add(**UBUNTU)
    assert distribution.remove(world.host()) == 0  # there is none
    assert world.walk().obstacle is None
    disk = world.windows.local_path(PureWindowsPath(world.windows.snapshot().distributions[-1].base_path))
    (disk / "ext4.vhdx").write_bytes(b"x" * 1000)
    assert distribution.disk_bytes(world.host()) == 1000
    assert distribution.remove(world.host()) == 1000
    assert [one.name for one in world.windows.snapshot().distributions] == ["Ubuntu-22.04"]
    assert not (disk / "set-up-complete").exists()
    assert world.walk().obstacle is None  # and is made anew


def test_an_installation_that_is_stopped_leaves_nothing(make_world: Callable[..., Any]) -> None:
    world = make_world()
    engine = world.engine()
    asked_for = []

    def stop(line: str) -> None:
        asked_for.append(line)
        engine.cancel()

    engine.subscribe(lambda happening: stop(str(happening)) if "--install" in str(happening) else None)
    assert engine.run(lambda plans: True) is not None
    assert asked_for
    assert world.windows.snapshot().distributions == ()


def test_a_second_program_does_not_clear_away_what_the_first_makes(make_world: Callable[..., Any]) -> None:
    from filelock import FileLock

    world = make_world()
    world.add(OWN_DISTRIBUTION, state=3)
    folder = world.folder / "C" / "Users" / "user" / "AppData" / "Local" / "RwkvLoraRunner"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "set-up.lock"):
        assert world.walk().obstacle.code.id == "set_up_elsewhere"
    assert len(world.windows.snapshot().distributions) == 1
    assert not any("--unregister" in call for call in world.calls)


def test_an_installation_that_outlived_the_program_is_waited_for(make_world: Callable[..., Any]) -> None:
    world = make_world()
    folder = world.folder / "C" / "Users" / "user" / "AppData" / "Local" / "RwkvLoraRunner"
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as earlier:
        created = psutil.Process(earlier.pid).create_time()
        (folder / "wsl-at-work.json").write_text(json.dumps([earlier.pid, created]), "utf-8")

        def end_it(happening: object) -> None:
            if f"wsl.exe ({earlier.pid})" in str(happening):
                world.add(OWN_DISTRIBUTION)  # what it was started for
                world.made = {"python3"}
                earlier.kill()

        engine = world.engine()
        engine.subscribe(end_it)
        assert engine.run(lambda plans: True) is None
    assert not any("--install" in call or "--unregister" in call for call in world.calls)


def test_a_finished_distribution_is_never_removed(make_world: Callable[..., Any]) -> None:
    for fault in ("Wsl/Service/E_UNEXPECTED", "Wsl/Service/0x80001234", "Wsl/Service/WSL_E_DISK_CORRUPTED"):
        world = make_world(faults={"inside": [fault]})
        world.finish_own(*DONE)
        world.walk(presses=2)
        assert not any("--unregister" in call for call in world.calls)


def test_after_the_restart_nobody_is_asked_again(make_world: Callable[..., Any]) -> None:
    world = make_world(facts=OFF, wsl="stub")
    asked = []
    first = world.engine().run(lambda plans: asked.append(plans) or True)
    assert first.state.value == "needs_reboot"
    assert {plan.step_id for plan in asked[0]} >= {"wsl_feature", "distro", "python_env", "torch_env"}
    assert world.windows.run_once[0][1:] == ("-X", "utf8", "-m", "runner_gui")
    assert world.engine().run(lambda plans: False).state.value == "needs_reboot"  # not restarted yet
    world.windows.restart()
    assert world.engine().run(lambda plans: False) is None
    assert world.prompts == 1


def test_looking_again_is_quick_and_changes_nothing(make_world: Callable[..., Any]) -> None:
    world = make_world(gpu="works")
    world.finish_own(*DONE)
    world.walk()
    world.calls.clear()
    statuses = world.engine().probe_all()
    assert all(status.fulfilled for status in statuses[:-1])  # the smoke test runs on the way to training
    # What it costs on a real computer: a call of wsl.exe takes a few hundredths of a second.
    assert len(world.calls) <= 10
    assert not any(word in call for call in world.calls for word in ("--shutdown", "--terminate", "--import"))


def test_no_sentence_of_any_language_is_looked_for(messages: dict[str, dict[str, str]]) -> None:
    """The code holds no word that wsl.exe says, in strings that are compared with what it prints."""
    fragments = {
        fragment.strip()
        for language in messages.values()
        for sentence in language.values()
        for fragment in re.split(r"[.:。：{}\n'“”]", sentence)
        if " " in fragment.strip() or re.search(r"[\u4e00-\u9fff]", fragment)  # one word is no sentence
    }
    assert len(fragments) > 12
    folder = Path(wsl_bootstrap.__file__).parent
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                assert not re.search(r"[\u4e00-\u9fff]", node.value), (path, node.value)
                assert not [words for words in fragments if words.lower() in node.value.lower()], (
                    path,
                    node.value,
                )


def test_every_code_of_the_windows_part_stands_in_a_row() -> None:
    """Codes that the table does not reach are listed here, each with the test that does."""
    elsewhere = {
        "not_needed_on_linux": "steps/test_checks.py",
        "restart_needed": "test_after_the_restart_nobody_is_asked_again",
        "set_up_elsewhere": "test_a_second_program_does_not_clear_away_what_the_first_makes",
        "wslconfig_odd": "test_a_tiny_limit_is_named_where_the_machine_does_not_answer",
        "download_mismatch": "test_downloads.py",
        "path_not_absolute": "hosts/test_wsl_paths.py",
        "path_on_network": "hosts/test_wsl_paths.py",
        "path_on_subst": "hosts/test_windows.py",
        "wsl_not_installed": "test_wsl_output.py",
        "wsl_failed": "test_wsl_output.py",
        # said on the way, while a step is to do or besides what it found
        "app_elevated": "as administrator",
        "wsl_feature_missing": "Windows 11, nothing there",
        "wsl_package_missing": "Windows 11, nothing there",
        "wsl_package_old": "WSL too old",
        "wsl_inbox_old": "Windows 10, inbox WSL",
        "distro_missing": "Windows 11 with WSL 2",
        "distro_half_made": "ours, half-made",
        "distro_other": "Ubuntu chosen",
        "vm_memory_small": "memory limit is tiny",
        "wsl_restart_stops": "memory limit is tiny",
        "gpu_not_in_wsl": "GPU on Windows only",
        "network_not_asked": "ours, without a network",
        "network_untested": "ours, bare",
    }
    rows = {case.ends.partition(": ")[2] for case in TABLE} | {
        meaning.code_id for meaning in _BY_CODE.values()
    }
    codes = list(REGISTRY)
    ours = set(codes[: codes.index("memory_too_small")]) - {"distro_disk_missing"}
    assert ours <= rows | set(elsewhere)
    names = {case.name for case in TABLE}
    assert all(
        where.endswith(".py") or where.startswith("test_") or where in names for where in elsewhere.values()
    )


def _world(case: Row, make_world: Callable[..., Any], tmp_path: Path, **more: Any) -> Any:
    settings = {"facts": case.facts, **case.world, **more}
    options = settings.get("options") or SetupOptions()
    if options.rootfs in ("F", "TEXT"):
        name, content = (
            ("ubuntu.tar.gz", b"\x1f\x8b rest") if options.rootfs == "F" else ("notes.txt", b"text")
        )
        (tmp_path / "C").mkdir()
        (tmp_path / "C" / name).write_bytes(content)
        settings["options"] = choose(mirror=options.mirror, rootfs=f"C:\\{name}")
    world = make_world(**settings)
    for other in case.others:
        world.add(**other)
    if case.own is not None:
        world.finish_own(*case.own)
    return world


def _record(record_property: Callable[[str, Any], None], scenario: str, status: Any) -> None:
    """Give a line for the table that scripts/test-wsl ends with."""
    record_property("scenario", scenario)
    record_property("outcome", READY if status is None else status.state.value)
    record_property("code", "" if status is None or status.code is None else status.code.id)


def _has_sentence_and_remedy(code: Any) -> None:
    for language in LANGUAGES:
        texts = load_texts(language)
        for part in CODE_PARTS:
            assert len(code_text(texts, code, part)) > 3, (code, language, part)


def _others_are_left_alone(world: Any, case: Row) -> None:
    """Nothing ran in a distribution of the person's, nor was it changed, unless it was chosen."""
    chosen = world.options.distribution
    assert set(world.touched) <= {OWN_DISTRIBUTION, chosen}
    changing = ("--unregister", "--terminate", "--set-version", "--set-default", "--manage")
    names = {call[2] for call in world.calls if len(call) > 2 and call[1] in changing}
    assert names <= {OWN_DISTRIBUTION}
    known = json.loads(world.file.read_text("utf-8"))["facts"].get("distributions", [])
    kept = [one["name"] for one in known if one["name"] != OWN_DISTRIBUTION]
    assert kept == [other["name"] for other in case.others if other["name"] != OWN_DISTRIBUTION]


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
