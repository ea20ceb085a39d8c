"""Windows names and Linux names of the same file."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from wsl_bootstrap.hosts.wsl_paths import PathError, drive_letter, to_linux, to_windows


@pytest.mark.parametrize(
    ("windows", "linux"),
    [
        (r"C:\a b", "/mnt/c/a b"),
        (r"d:\模型\x.pth", "/mnt/d/模型/x.pth"),
        ("C:\\", "/mnt/c"),
        (r"\\?\C:\very\long", "/mnt/c/very/long"),
        (r"\\wsl.localhost\Own\root\x", "/root/x"),
        (r"\\wsl$\OWN\etc", "/etc"),
        ("\\\\wsl$\\Own\\", "/"),
    ],
)
def test_to_linux(windows: str, linux: str) -> None:
    assert to_linux(PureWindowsPath(windows), "Own") == linux


def test_the_automount_root_is_honoured() -> None:
    assert to_linux(PureWindowsPath(r"C:\x"), "Own", "/") == "/c/x"
    assert to_linux(PureWindowsPath(r"C:\x"), "Own", "/drives") == "/drives/c/x"
    assert to_windows(PurePosixPath("/c/x"), "Own", "/") == PureWindowsPath(r"C:\x")


@pytest.mark.parametrize(
    ("windows", "code_id"),
    [
        (r"\\nas\models\x.pth", "path_on_network"),
        (r"\\wsl.localhost\Ubuntu\root", "path_on_network"),
        ("models\\x.pth", "path_not_absolute"),
        ("C:x.pth", "path_not_absolute"),
        ("\\x.pth", "path_not_absolute"),
    ],
)
def test_what_has_no_linux_name_is_refused(windows: str, code_id: str) -> None:
    with pytest.raises(PathError) as refused:
        to_linux(PureWindowsPath(windows), "Own")
    assert (refused.value.code.id, refused.value.code.args) == (code_id, {"path": windows})


@pytest.mark.parametrize(
    ("linux", "windows"),
    [
        ("/mnt/c/a b", r"C:\a b"),
        ("/mnt/c", "C:\\"),
        ("/mnt/wsl/x", r"\\wsl.localhost\Own\mnt\wsl\x"),
        ("/root/runs", r"\\wsl.localhost\Own\root\runs"),
        ("/mnt", r"\\wsl.localhost\Own\mnt"),
    ],
)
def test_to_windows(linux: str, windows: str) -> None:
    assert to_windows(PurePosixPath(linux), "Own") == PureWindowsPath(windows)


def test_a_relative_linux_path_has_no_windows_name() -> None:
    with pytest.raises(PathError):
        to_windows(PurePosixPath("runs"), "Own")


def test_drive_letters() -> None:
    paths = (r"c:\x", r"\\?\D:\x", r"\\nas\x\y", "x")
    assert [drive_letter(PureWindowsPath(path)) for path in paths] == ["C", "D", "", ""]
