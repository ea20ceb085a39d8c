"""How distributions come, go and change: wsl.exe's managing commands, on roots that are too small to run."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LANGUAGES = {"en": "Error code: ", "zh": "错误代码: "}


def small_root(*, name: str = "", passwd: bool = True) -> bytes:
    """Return an archive with what makes a root file system one, and nothing to run."""
    files = {"./root/kept": b"mine\n"}
    if passwd:
        files["./etc/passwd"] = b"root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n"
    if name:
        files["./etc/wsl-distribution.conf"] = f"[oobe]\ndefaultName = {name}\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def said(done: Any) -> str:
    return done.stdout.decode()


def names(one: Any) -> list[str]:
    return [known["name"] for known in one.facts().get("distributions", [])]


@pytest.fixture
def one(computer: Callable[..., Any]) -> Any:
    made = computer()
    (made.drive / "root.tar").write_bytes(small_root())
    return made


@pytest.fixture
def trains(one: Any) -> Any:
    """With a distribution named A."""
    assert one.wsl("--import", "A", "C:\\a", "C:\\root.tar").returncode == 0
    return one


def kept(one: Any, folder: str) -> str:
    return (one.drive / folder / "rootfs" / "root" / "kept").read_text()


def test_a_root_file_system_comes_through_a_pipe(one: Any) -> None:
    assert one.wsl("--import", "A", "C:\\a b", "-", stdin=small_root()).returncode == 0
    assert (names(one), kept(one, "a b")) == (["A"], "mine\n")
    done = one.wsl("--install", "--from-file", "-", "--name", "B", "--no-launch", stdin=small_root())
    assert (done.returncode, names(one)) == (0, ["A", "B"])


def test_a_distribution_goes_through_a_pipe_and_back(trains: Any) -> None:
    done = trains.wsl("--export", "A", "-")
    assert done.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert {"./root/kept", "./etc/passwd"} <= set(archive.getnames())
    assert trains.wsl("--import", "B", "C:\\b", "-", stdin=done.stdout).returncode == 0
    assert kept(trains, "b") == "mine\n"


@pytest.mark.parametrize(("kind", "head"), [("tar.gz", b"\x1f\x8b"), ("tar.xz", b"\xfd7zXZ"), ("tar", b"./")])
def test_formats_of_an_export(trains: Any, kind: str, head: bytes) -> None:
    assert trains.wsl("--export", "A", "C:\\out", "--format", kind).returncode == 0
    assert (trains.drive / "out").read_bytes().startswith(head)
    assert trains.wsl("--import", "B", "C:\\b", "C:\\out").returncode == 0


def test_an_exported_disk_is_used_where_it_lies(trains: Any) -> None:
    (trains.drive / "d").mkdir()
    assert trains.wsl("--export", "A", "C:\\d\\ext4.vhdx", "--format", "vhd").returncode == 0
    assert trains.wsl("--import-in-place", "B", "C:\\d\\ext4.vhdx").returncode == 0
    assert kept(trains, "d") == "mine\n"
    assert trains.wsl("--unregister", "B").returncode == 0
    assert list((trains.drive / "d").iterdir()) == []


def test_install_takes_name_and_place(one: Any) -> None:
    file = one.drive / "u.wsl"
    file.write_bytes(small_root(name="FromItself"))
    assert one.wsl("--install", "--from-file", "C:\\u.wsl", "--no-launch").returncode == 0
    assert names(one) == ["FromItself"]
    one.set(images={"Ubuntu-24.04": str(file), "Ubuntu-22.04": str(file)})
    place = ("--name", "Ours", "--location", "C:\\ours", "--web-download", "--no-launch")
    assert one.wsl("--install", "Ubuntu-22.04", *place).returncode == 0
    assert (names(one), kept(one, "ours")) == (["FromItself", "Ours"], "mine\n")
    offered = said(one.wsl("--list", "--online")).splitlines()
    rows = offered[offered.index(next(line for line in offered if line.startswith("NAME"))) :]
    assert [row.split()[0] for row in rows] == ["NAME", "Ubuntu-24.04", "Ubuntu-22.04"]


def test_a_distribution_is_changed(trains: Any) -> None:
    assert trains.wsl("--manage", "A", "--move", "C:\\there").returncode == 0
    assert (kept(trains, "there"), (trains.drive / "a" / "rootfs").exists()) == ("mine\n", False)
    assert trains.wsl("--manage", "A", "--resize", "64GB").returncode == 0
    assert trains.wsl("--manage", "A", "--set-default-user", "me").returncode == 0
    assert trains.wsl("--manage", "A", "--set-sparse", "true", "--allow-unsafe").returncode == 0
    script = trains.script()
    (settings,) = script["standin"]["settings"].values()
    assert settings == {"size_bytes": 64 * 2**30, "default_uid": 1000, "sparse": True}
    assert script["facts"]["distributions"][0]["base_path"] == "C:\\there"


def test_disks_are_attached_and_let_go(one: Any) -> None:
    (one.drive / "d.vhdx").write_bytes(b"")
    assert one.wsl("--mount", "--vhd", "C:\\d.vhdx", "--name", "data").returncode == 0
    assert one.script()["standin"]["mounted"] == {"C:\\d.vhdx": "data"}
    assert one.wsl("--unmount", "C:\\d.vhdx").returncode == 0
    assert one.wsl("--mount", "--vhd", "C:\\d.vhdx", "--bare").returncode == 0
    assert one.wsl("--unmount").returncode == 0
    assert one.script()["standin"]["mounted"] == {}


def test_wsl_goes_away_and_its_distributions_stay(trains: Any) -> None:
    assert trains.wsl("--uninstall").returncode == 0
    assert (trains.facts()["wsl_package"], names(trains)) == (None, ["A"])
    assert trains.wsl("--status").returncode == 50


REFUSED = {
    "name taken": (("--import", "a", "C:\\b", "C:\\root.tar"), "RegisterDistro/ERROR_ALREADY_EXISTS"),
    "folder taken": (("--import", "B", "C:\\A", "C:\\root.tar"), "RegisterDistro/ERROR_FILE_EXISTS"),
    "no such file": (("--import", "B", "C:\\b", "C:\\nothing.tar"), "Wsl/ERROR_FILE_NOT_FOUND"),
    "no drive": (("--import", "B", "C:\\b", "Q:\\x.tar"), "Wsl/ERROR_PATH_NOT_FOUND"),
    "not Linux": (("--import", "B", "C:\\b", "C:\\bare.tar"), "RegisterDistro/WSL_E_NOT_A_LINUX_DISTRO"),
    "no archive": (("--import", "B", "C:\\b", "C:\\noise"), "RegisterDistro/WSL_E_IMPORT_FAILED"),
    "odd version": (
        ("--import", "B", "C:\\b", "C:\\root.tar", "--version", "3"),
        "ERROR_VERSION_PARSE_ERROR",
    ),
    "too few words": (("--import", "B", "C:\\b"), "Wsl/E_INVALIDARG"),
    "no disk there": (("--import-in-place", "B", "C:\\no.vhdx"), "MountVhd/HCS/ERROR_FILE_NOT_FOUND"),
    "no name": (("--install", "--from-file", "C:\\root.tar"), "WSL_E_DISTRIBUTION_NAME_NEEDED"),
    "file and name": (("--install", "U", "--from-file", "C:\\root.tar"), "Wsl/E_INVALIDARG"),
    "nothing to install": (("--install", "U", "--no-distribution"), "Wsl/E_INVALIDARG"),
    "odd size": (("--install", "U", "--vhd-size", "big"), "Wsl/E_INVALIDARG"),
    "no list": (("--install", "U"), "InstallDistro/WININET_E_NAME_NOT_RESOLVED"),
    "no list online": (("-l", "-o"), "Wsl/WININET_E_NAME_NOT_RESOLVED"),
    "odd format": (("--export", "A", "C:\\out", "--format", "zip"), "Wsl/E_INVALIDARG"),
    "nowhere to go": (("--export", "A", "C:\\no\\out"), "Wsl/ERROR_PATH_NOT_FOUND"),
    "not there": (("--manage", "B", "--move", "C:\\x"), "Wsl/Service/WSL_E_DISTRO_NOT_FOUND"),
    "nobody": (("--manage", "A", "--set-default-user", "x"), "WSL_E_USER_NOT_FOUND"),
    "sparse": (("--manage", "A", "--set-sparse", "true"), "Wsl/Service/E_INVALIDARG"),
    "unclear": (("--manage", "A", "--set-sparse", "perhaps"), "Wsl/E_INVALIDARG"),
    "no administrator": (("--mount", "\\\\.\\PHYSICALDRIVE1"), "WSL_E_ELEVATION_NEEDED_TO_MOUNT_DISK"),
    "no such disk": (("--mount", "--vhd", "C:\\no.vhdx"), "AttachDisk/MountDisk/HCS/ERROR_FILE_NOT_FOUND"),
    "not mounted": (("--unmount", "C:\\no.vhdx"), "DetachDisk/ERROR_FILE_NOT_FOUND"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_refused_says_so_in_words_and_by_a_code(trains: Any, language: str) -> None:
    trains.set(language=language)
    (trains.drive / "noise").write_bytes(bytes(range(256)))
    (trains.drive / "bare.tar").write_bytes(small_root(passwd=False))
    before = trains.facts()
    for what, (line, code) in REFUSED.items():
        done = trains.wsl(*line)
        assert (what, done.returncode) == (what, 255)
        assert code in said(done).splitlines()[-1], what
        assert said(done).splitlines()[-1].startswith(LANGUAGES[language]), what
    assert trains.facts() == before
    assert sorted(path.name for path in trains.drive.iterdir()) == [
        "Users",
        "a",
        "bare.tar",
        "noise",
        "root.tar",
    ]


@pytest.mark.parametrize(
    "line",
    [
        ("--manage", "A"),
        ("--manage", "A", "--move", "C:\\x", "--resize", "1GB"),
        ("--export", "A"),
        ("--import-in-place", "B"),
        ("--import", "B", "C:\\b", "C:\\d.vhdx"),
        ("-l", "-q", "-v"),
        ("--help",),
        ("--manage", "A", "--fly"),
        ("--manage", "A", "--move"),
        ("--unregister",),
    ],
)
def test_what_is_misused_is_told_without_a_code(trains: Any, line: tuple[str, ...]) -> None:
    done = trains.wsl(*line)
    assert (done.returncode, "Wsl/" in said(done), said(done) != "") == (255, False, True)


def test_wsl_1_has_no_disk_to_change(trains: Any) -> None:
    assert trains.wsl("--set-version", "A", "1").returncode == 0
    for wish, code in (
        (("--move", "C:\\x"), "Wsl/Service/MoveDistro/E_NOTIMPL"),
        (("--resize", "1GB"), "Wsl/Service/WSL_E_WSL2_NEEDED"),
        (("--set-sparse", "false"), "Wsl/Service/WSL_E_VM_MODE_INVALID_STATE"),
    ):
        assert code in said(trains.wsl("--manage", "A", *wish))


def test_what_runs_is_not_moved(computer: Callable[..., Any], debian: Path) -> None:
    one = computer()
    one.set(images={"Debian": str(debian)})
    assert one.wsl("--install", "Debian", "--name", "A", "--location", "C:\\a").returncode == 0
    for wish in (("--move", "C:\\x"), ("--resize", "1GB"), ("--set-sparse", "false")):
        one.wsl("-d", "A", "-e", "true")
        assert "WSL_E_DISTRO_NOT_STOPPED" in said(one.wsl("--manage", "A", *wish))
    guid = one.facts()["distributions"][0]["guid"]
    assert said(one.wsl("--distribution-id", guid, "-e", "echo", "by id")) == "by id\n"
    assert one.wsl("-d", "A", "-u", "root", "-e", "useradd", "-m", "me").returncode == 0
    assert one.wsl("--manage", "A", "--set-default-user", "me").returncode == 0
    assert said(one.wsl("-d", "A", "-e", "id", "-un")) == "me\n"
    assert one.wsl("--terminate", "A").returncode == 0
    assert one.wsl("--unregister", "A").returncode == 0
