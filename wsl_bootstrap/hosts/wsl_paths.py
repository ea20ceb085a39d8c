"""The same file by its Windows name and by its Linux name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import HostError

_SHARES = ("wsl.localhost", "wsl$")
AUTOMOUNT_ROOT = "/mnt/"


class PathError(HostError):
    """A file that the distribution has no name for; the code says why."""

    def __init__(self, code_id: str, path: PureWindowsPath | PurePosixPath) -> None:
        super().__init__(make_code(code_id, path=str(path)))


def drive_letter(path: PureWindowsPath) -> str:
    """Return the letter of the drive that a path names, in upper case, or nothing for a network path."""
    drive = path.drive.removeprefix("\\\\?\\")
    return drive[0].upper() if re.fullmatch(r"[A-Za-z]:", drive) else ""


def to_linux(path: PureWindowsPath, distribution: str, automount_root: str = AUTOMOUNT_ROOT) -> str:
    r"""Return how `distribution` names a Windows file: `C:\a b` is `/mnt/c/a b`.

    A file inside the distribution (`\\wsl.localhost\NAME\...`) loses its share. Whether a drive letter stands
    for a network or `subst` drive, which are not mounted, only Windows can tell; the caller asks first.

    Raises:
        PathError: it lies on a network share or in another distribution, or is not absolute.
    """
    if letter := drive_letter(path):
        if not path.is_absolute():
            raise PathError("path_not_absolute", path)
        rest = path.relative_to(path.anchor).as_posix()
        return f"{automount_root.rstrip('/')}/{letter.lower()}" + ("" if rest == "." else f"/{rest}")
    if not path.drive:
        raise PathError("path_not_absolute", path)
    server, _, share = path.drive.lstrip("\\").partition("\\")
    if server.lower() in _SHARES and share.lower() == distribution.lower():
        return "/" + "/".join(path.parts[1:])
    raise PathError("path_on_network", path)


def to_windows(
    path: PurePosixPath, distribution: str, automount_root: str = AUTOMOUNT_ROOT
) -> PureWindowsPath:
    r"""Return how Windows names a file that `distribution` knows as `path`.

    Raises:
        PathError: it is not absolute.
    """
    if not path.is_absolute():
        raise PathError("path_not_absolute", path)
    root = PurePosixPath(automount_root)
    if path.is_relative_to(root):
        letter, *rest = path.relative_to(root).parts or ("",)
        if re.fullmatch(r"[a-z]", letter):
            return PureWindowsPath(f"{letter.upper()}:\\", *rest)
    return PureWindowsPath(f"\\\\{_SHARES[0]}\\{distribution}\\", *path.parts[1:])
