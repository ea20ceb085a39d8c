"""Where downloads come from: each tool's own default, or a mirror of the person's choice.

"official" names no address at all: what a tool was built or set up with, it uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OFFICIAL, CUSTOM = "official", "custom"


@dataclass(frozen=True)
class Mirror:
    """Addresses of one source; None leaves the tool its own default.

    `packages` is a Python package index, `system` the server that has `ubuntu/` and `debian/` for apt,
    `images` a folder with .wsl files and their SHA256SUMS, in which {release} stands for Ubuntu's number, and
    `models` a server in place of the model hub.
    """

    packages: str | None = None
    system: str | None = None
    images: str | None = None
    models: str | None = None

    def images_of(self, system: str) -> str | None:
        """Return the folder with images of a system, named as WSL's list has it: "Ubuntu-24.04"."""
        if self.images is None or "{release}" not in self.images:
            return self.images
        release = re.fullmatch(r"Ubuntu-(\d\d\.\d\d)", system)
        return self.images.replace("{release}", release[1]) if release else None


def _usual(host: str, packages: str) -> Mirror:
    # apt checks signatures itself, and a small system has no certificates for https yet.
    return Mirror(
        packages=f"https://{packages}",
        system=f"http://{host}",
        images=f"https://{host}/ubuntu-releases/{{release}}/",
    )


MIRRORS: dict[str, Mirror] = {
    OFFICIAL: Mirror(),
    "aliyun": _usual("mirrors.aliyun.com", "mirrors.aliyun.com/pypi/simple/"),
    "tsinghua": _usual("mirrors.tuna.tsinghua.edu.cn", "pypi.tuna.tsinghua.edu.cn/simple"),
    "ustc": _usual("mirrors.ustc.edu.cn", "mirrors.ustc.edu.cn/pypi/simple"),
}
