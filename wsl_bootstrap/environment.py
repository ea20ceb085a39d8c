"""Which Python environment set-up is about."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path, PurePath, PurePosixPath

from platformdirs import user_data_path

from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.interpreter import OursFacts
from wsl_bootstrap.options import TORCH_INDEX_VARIABLE, SetupOptions

__all__ = ["TORCH_INDEX_VARIABLE", "Environment", "SetupOptions", "current_environment"]

DISTRIBUTION = "rwkv-lora-runner"
APP_FOLDER = "RwkvLoraRunner"
PYTHON_VERSIONS = ((3, 10), (3, 13))  # the oldest and the newest that every dependency has wheels for
LINUX_FOLDER = PurePosixPath("/opt", DISTRIBUTION)  # all that we have inside a distribution
# What a bare distribution lacks: Triton compiles its launchers with the C compiler and Python's headers.
SYSTEM_PACKAGES = ("python3", "python3-venv", "python3-dev", "gcc", "ca-certificates")
_PROJECT = Path(__file__).resolve().parent.parent
_WHEELS = Path(__file__).resolve().with_name("wheel")  # filled when the application for Windows is packed
_CONSTRAINTS = "constraints.txt"


def our_source() -> str:
    """Return what our packages are installed from elsewhere: this checkout, the wheel that came with us, or
    the requirement of this very version."""
    if (_PROJECT / "pyproject.toml").is_file():
        return str(_PROJECT)
    wheels = sorted(_WHEELS.glob("*.whl"))
    if wheels:
        return str(wheels[-1])
    try:
        return f"{DISTRIBUTION}=={metadata.version(DISTRIBUTION)}"
    except metadata.PackageNotFoundError:
        return DISTRIBUTION


@dataclass(frozen=True)
class Environment:
    """The environment that trains.

    Paths are those of the Linux side. `base_python` makes the environment when there is none; `source` is
    what pip installs our own packages from (a folder with the project, a wheel, or a requirement); `torch`
    says whether the build of torch follows the GPU ("auto") or never needs one ("cpu").

    Behind WSL, `system_packages` are those of the distribution that may be installed, as root, before the
    environment is made; the window's packages stay out of it; and `inside` is the Linux side's name for
    `source`, filled in by `seen_from`.
    """

    folder: PurePath
    base_python: str = sys.executable
    source: str = field(default_factory=our_source)
    torch: str = "auto"
    inside: str = ""
    system_packages: tuple[str, ...] = ()

    def seen_from(self, host: Host) -> Environment:
        """Return it with the name that the Linux side of a host has for `source`.

        Raises:
            PathError: it has none.
        """
        if not self.system_packages or self.inside:
            return self
        is_file = self.source_folder is not None or self.wheel is not None
        return replace(self, inside=host.to_linux_path(Path(self.source)) if is_file else self.source)

    @property
    def python(self) -> str:
        """The environment's interpreter."""
        return (self.folder / "bin" / "python").as_posix()

    @property
    def source_folder(self) -> PurePath | None:
        """The project's folder as the Linux side knows it, when our packages are installed from one."""
        if not (Path(self.source) / "pyproject.toml").is_file():
            return None
        return PurePosixPath(self.inside) if self.inside else Path(self.source)

    @property
    def wheel(self) -> Path | None:
        """The wheel that our packages are installed from, if it is one."""
        return Path(self.source) if self.source.endswith(".whl") else None

    def requirement(self, extra: str = "") -> tuple[str, ...]:
        """Return pip's arguments for our own packages, with an extra."""
        suffix = f"[{extra}]" if extra else ""
        folder = self.source_folder
        if folder:
            return ("-e", f"{folder}{suffix}")
        # pip passes over a wheel of a version that is there already, whatever is in it.
        again = ("--force-reinstall",) if self.wheel and not extra else ()
        return (*again, f"{self.inside or self.source}{suffix}")

    def tested_versions(self) -> tuple[str, ...]:
        """Return pip's arguments for the versions that our tests pass with, where they are at hand."""
        folder = Path(self.source).parent if self.wheel else Path(self.source)
        if not (folder / _CONSTRAINTS).is_file():
            return ()
        inside = PurePosixPath(self.inside) if self.inside else PurePath(self.source)
        return ("-c", str((inside.parent if self.wheel else inside) / _CONSTRAINTS))

    def holds(self, ours: OursFacts | None) -> bool:
        """Return whether the environment has our packages as we would install them now."""
        if ours is None:
            return False
        if self.wheel is not None:
            return ours.sha256 == hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        if folder := self.source_folder:
            return ours.folder == folder.as_posix()
        return ours.version == self.source.rpartition("==")[2] or "==" not in self.source

    def pip_install(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Return the command that installs into this environment."""
        return (self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)


def current_environment(host: Host | None = None) -> Environment:
    """Return the environment we run in, or one of our own when we run in the system's Python.

    Behind WSL it is one inside the distribution.
    """
    if host is not None and host.facts().os == "windows":
        return Environment(LINUX_FOLDER / "venv", "/usr/bin/python3", system_packages=SYSTEM_PACKAGES)
    in_venv = sys.prefix != sys.base_prefix
    return Environment(Path(sys.prefix) if in_venv else user_data_path(APP_FOLDER, appauthor=False) / "venv")
