"""Where downloads come from: each tool's own default, or a mirror of the person's choice.

"official" names no address at all: what a tool was built or set up with, it uses.
"""

from __future__ import annotations

from dataclasses import dataclass

OFFICIAL, CUSTOM = "official", "custom"


@dataclass(frozen=True)
class Mirror:
    """Addresses of one source; None leaves the tool its own default.

    `packages` is a Python package index, `system` the server that has `ubuntu/` and `debian/` for apt,
    `images` a folder with .wsl files and their SHA256SUMS, `models` a server in place of the model hub.
    """

    packages: str | None = None
    system: str | None = None
    images: str | None = None
    models: str | None = None


def _usual(host: str, packages: str) -> Mirror:
    # apt checks signatures itself, and a small system has no certificates for https yet.
    return Mirror(
        packages=f"https://{packages}",
        system=f"http://{host}",
        images=f"https://{host}/ubuntu-releases/24.04/",
    )


MIRRORS: dict[str, Mirror] = {
    OFFICIAL: Mirror(),
    "aliyun": _usual("mirrors.aliyun.com", "mirrors.aliyun.com/pypi/simple/"),
    "tsinghua": _usual("mirrors.tuna.tsinghua.edu.cn", "pypi.tuna.tsinghua.edu.cn/simple"),
    "ustc": _usual("mirrors.ustc.edu.cn", "mirrors.ustc.edu.cn/pypi/simple"),
}
