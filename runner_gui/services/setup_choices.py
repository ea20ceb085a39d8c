"""What a person may choose about set-up: kept, and in effect at the next look."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from PySide6.QtCore import QObject, Signal

from runner_gui.model.workspace import Workspace, default_root
from runner_gui.services.background import Background
from wsl_bootstrap.distribution import disk_bytes, remove
from wsl_bootstrap.engine import Engine
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.options import DEFAULT_SYSTEM, SetupOptions, options_file
from wsl_bootstrap.steps.distro import offered_systems
from wsl_bootstrap.steps.network import NetworkCheck

LOG = logging.getLogger(__name__)


def reopen_command(workspace: Workspace) -> tuple[str, ...]:
    """Return what opens this window again on Windows, on the same work folder, without a console."""
    python = str(PureWindowsPath(sys.executable).with_name("pythonw.exe"))
    # Old versions of Windows read no more than 260 characters: nothing is said that goes without saying.
    folder = () if workspace.root == default_root() else (f"--work-dir={workspace.root}",)
    return (python, "-X", "utf8", "-m", "runner_gui", *folder)


class SetupChoices(QObject):
    """The choices of one engine, which does nothing meanwhile.

    Args:
        reopen: the command that opens this program again after a restart.

    Signals:
        systems_changed: `systems` is another.
    """

    systems_changed = Signal()

    def __init__(
        self,
        engine: Engine[SetupOptions],
        environment: Environment,
        reopen: Sequence[str] = (),
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._engine, self._environment, self._reopen = engine, environment, tuple(reopen)
        self._background = Background(self)
        self._offered: list[str] | None = None  # by WSL, once it was asked

    @property
    def options(self) -> SetupOptions:
        return self._engine.options

    @property
    def windows(self) -> WindowsHost | None:
        """The host, where it is Windows and there is more to choose."""
        return self._engine.host if isinstance(self._engine.host, WindowsHost) else None

    def distributions(self) -> list[str]:
        """Return what may train: our own distribution first, then the person's that run in WSL 2."""
        if self.windows is None:
            return []
        found = self.windows.windows.snapshot().distributions
        return [OWN_DISTRIBUTION, *(d.name for d in found if d.is_wsl2 and d.name != OWN_DISTRIBUTION)]

    @property
    def systems(self) -> list[str]:
        """What our own distribution can be made of: our choice, the person's, then what else WSL offers."""
        known = [DEFAULT_SYSTEM, self.options.system, *(self._offered or ())]
        return list(dict.fromkeys(known))

    def look_for_systems(self) -> None:
        """Ask WSL what it offers, in the background, which takes a network; once is enough."""
        if self.windows is not None and self._offered is None:
            wsl = self.windows.wsl
            self._offered = []
            self._background.submit(lambda: offered_systems(wsl), self._take_systems)

    def _take_systems(self, offered: list[str] | Exception) -> None:
        if isinstance(offered, Exception):
            LOG.warning("what WSL offers: %s", offered)
            self._offered = None  # asked again with the next look
        else:
            self._offered = offered
            self.systems_changed.emit()

    def close(self) -> None:
        """End the thread that asks."""
        self._background.close()

    def choose(self, **changed: Any) -> None:
        """Change options, in the engine's thread, by their names; files of this computer as a `Path`.

        Raises:
            OSError: they could not be kept. PathError: Windows has no name for the file.
        """
        options = replace(self.options, **{name: self._plain(value) for name, value in changed.items()})
        options.save(options_file())
        self._engine.options = options
        self._engine.replace_step(NetworkCheck(self._environment, options))
        if self.windows is not None:
            self.windows.distribution = options.distribution

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Path) and self.windows is not None:
            return str(self.windows.windows.windows_path(value))
        return value

    def own_bytes(self) -> int | None:
        """Return what removing our own distribution would free; None where there is none."""
        if self.windows is None or self.windows.windows.snapshot().distribution(OWN_DISTRIBUTION) is None:
            return None
        return disk_bytes(self.windows)

    def remove_own(self) -> None:
        """Remove our own distribution, in the engine's thread.

        Raises:
            HostError: WSL did not.
        """
        if self.windows is not None:
            remove(self.windows)

    def restart(self) -> None:
        """Restart Windows, and open this program again when it is back.

        Raises:
            OSError: Windows refused.
        """
        if self.windows is not None:
            self.windows.windows.resume_after_restart(self._reopen)
            self.windows.windows.restart()
