"""Process 1 of a distribution: mounts what Linux finds there, buries the dead, and ends when nobody is left.

    init.py ROOT LOCK IDLE_S MEMORY_KIB READY SOURCE=TARGET…

Runs outside of the root file system, so that it needs no Python inside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_LOOK_S = 0.2


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL)


def prepare(root: Path, memory_kib: int, binds: list[tuple[Path, str]]) -> None:
    """Mount the kernel's file systems, the drives, and what else is to be seen inside."""
    mount("--make-rprivate", "/")
    mount("--rbind", str(root), str(root))
    for folder in ("proc", "sys", "dev", "run", "tmp", "mnt"):
        (root / folder).mkdir(exist_ok=True)
    mount("-t", "proc", "proc", str(root / "proc"))
    with contextlib.suppress(subprocess.CalledProcessError):
        mount("-t", "sysfs", "-o", "ro", "sysfs", str(root / "sys"))
    mount("--rbind", "/dev", str(root / "dev"))
    mount("-t", "tmpfs", "tmpfs", str(root / "run"))
    for name in ("resolv.conf", "hosts"):
        with contextlib.suppress(OSError):
            shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    for source, target in binds:
        place = root / target.lstrip("/")
        if source.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        mount("--bind", str(source), str(place))
    told = re.sub(r"(?m)^MemTotal:.*$", f"MemTotal: {memory_kib:>14} kB", Path("/proc/meminfo").read_text())
    (root / "run" / "meminfo").write_text(told)
    mount("--bind", str(root / "run" / "meminfo"), str(root / "proc" / "meminfo"))


def main() -> int:
    root, lock, idle_s, memory_kib, ready, *rest = sys.argv[1:]
    binds = [(Path(source), target) for source, _, target in (item.partition("=") for item in rest)]
    prepare(Path(root), int(memory_kib), binds)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Path(ready).touch()
    alone_since = time.monotonic()
    with open(lock, "w") as held:
        while time.monotonic() - alone_since < float(idle_s):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(held, fcntl.LOCK_UN)
            except BlockingIOError:
                alone_since = time.monotonic()  # a wsl.exe lives
            time.sleep(_LOOK_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
