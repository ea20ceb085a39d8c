"""What a person may choose about set-up: kept, and in effect at the next look."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsl_bootstrap.distribution import disk_bytes, remove
from wsl_bootstrap.engine import Engine
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.options import SetupOptions, options_file
from wsl_bootstrap.steps.network import NetworkCheck


class SetupChoices:
    """The choices of one engine, which does nothing meanwhile."""

    def __init__(self, engine: Engine[SetupOptions], environment: Environment) -> None:
        self._engine, self._environment = engine, environment

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
            self.windows.windows.resume_after_restart([sys.executable, "-m", "runner_gui"])
            self.windows.windows.restart()
