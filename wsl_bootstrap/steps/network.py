"""Whether Linux reaches what is still to be downloaded. Only asked while something is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.distribution import is_own
from wsl_bootstrap.environment import Environment, SetupOptions
from wsl_bootstrap.hosts.base import CommandNotFoundError, CommandTimeoutError, Host
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.mirrors import MIRRORS, Mirror
from wsl_bootstrap.step import Probe

_SCRIPT = Path(__file__).parent.with_name("inspect_network.py")
_TIMEOUT_S = 25.0
_SHORT_S = 20.0
_HAS_TORCH = 'for d in "$1"/lib/python3*/site-packages/torch; do [ -d "$d" ] && exit 0; done; exit 1'


@dataclass(frozen=True)
class NetworkCheck:
    """Asks inside for the chosen mirror, as pip and apt would, and for the others where it is silent."""

    environment: Environment
    options: SetupOptions = field(default_factory=SetupOptions)
    id: str = "network"
    requires: tuple[str, ...] = ("distro",)

    def probe(self, host: Host) -> Probe:
        """Say nothing stands in the way, or what does and which mirror would do."""
        if not isinstance(host, WindowsHost):
            return Probe.not_needed(make_code("not_needed_on_linux"))
        folder = self.environment.folder.as_posix()
        if host.run(["sh", "-c", _HAS_TORCH, "sh", folder], timeout_s=_SHORT_S).ok:
            return Probe.satisfied(code=make_code("network_not_asked"))
        chosen = self.options.mirror
        answers = self._reach(host, {chosen: self.options.source})
        if answers is None:
            return Probe.satisfied(chosen, make_code("network_untested"))
        if not answers[chosen]:
            return Probe.satisfied(chosen)
        others = {name: mirror for name, mirror in MIRRORS.items() if name != chosen}
        reachable = [name for name, problem in (self._reach(host, others) or {}).items() if not problem]
        if reachable:
            code = make_code("mirror_unreachable", mirror=chosen, reachable=", ".join(reachable))
        elif self.options.proxy is None and (proxy := _loopback_proxy(host.windows.snapshot().proxy)):
            code = make_code("proxy_only_on_windows", proxy=proxy)
        else:
            code = make_code("network_unreachable", mirror=chosen, detail=answers[chosen])
        return Probe.blocked(code, chosen)

    def _reach(self, host: WindowsHost, mirrors: dict[str, Mirror]) -> dict[str, str] | None:
        indexes = {name: mirror.packages for name, mirror in mirrors.items()}
        # Where apt looks is changed in a distribution of our own, never in the person's.
        servers = {name: mirror.system for name, mirror in mirrors.items() if mirror.system and is_own(host)}
        arguments = [json.dumps(indexes), self.options.proxy or "", json.dumps(servers)]
        try:
            done = host.run(
                [self.environment.base_python, "-c", _SCRIPT.read_text("utf-8"), *arguments],
                timeout_s=_TIMEOUT_S,
            )
            return json.loads(done.stdout.splitlines()[-1])
        except CommandNotFoundError:
            return None
        except CommandTimeoutError:
            return dict.fromkeys(mirrors, "time-out")
        except (IndexError, ValueError):
            return None


def _loopback_proxy(proxy: str | None) -> str | None:
    """Return a proxy that only Windows itself reaches."""
    host = urlsplit(proxy if proxy and "://" in proxy else f"//{proxy}").hostname if proxy else None
    return proxy if host in ("127.0.0.1", "localhost", "::1") else None
