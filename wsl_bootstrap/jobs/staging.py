"""Files of Windows where Linux reads them fast: copied once into the distribution, known by their content.

Through /mnt/c a model loads a hundred times slower than from the distribution's own disk. What was copied is
remembered by name, size and time of the file, on the Windows side; whether the copy is still there is looked
up each time.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.codes import Code, make_code
from wsl_bootstrap.files import write_whole
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.step import Progress, StepError

LOG = logging.getLogger(__name__)
_SCRIPT = Path(__file__).with_name("copy_inside.py")
_LOOK_TIMEOUT_S = 20.0
_POLL_S = 0.2
RESERVE_BYTES = 256 * 2**20  # what a disk should keep free
_STOP_GRACE_S = 5.0

OnProgress = Callable[[Progress], None]


class Staging:
    """Copies in and out.

    Args:
        host: Windows with the distribution.
        python: an interpreter inside.
        index: the file, on the Windows side, that remembers what was copied.
        folder: where copies lie inside.
    """

    def __init__(self, host: WindowsHost, python: str, index: Path, folder: PurePosixPath) -> None:
        self._host, self._python, self._index, self._folder = host, python, index, folder

    def bring(self, path: Path, on_progress: OnProgress, cancel: CancelToken) -> str:
        """Return where a file, a folder or a pair .bin/.idx lies inside, copying it if that was not done.

        Raises:
            StepError: no room, or it cannot be read; HostError; CancelledError.
        """
        sources = _sources(path)
        if not sources:  # its reader says better what is wrong with it
            return self._host.to_linux_path(path)
        files = [entry for source in sources for entry in _stamp(source)]
        stamp = [list(entry) for entry in files]
        known = self._read()
        entry = known.get(str(path))
        if entry is not None and entry["stamp"] == stamp and self._is_there(entry["inside"], sources):
            return entry["inside"]
        self._check_room(sum(size for _, size, _ in files))
        names = [self._host.to_linux_path(source) for source in sources]
        inside = self._copy(["in", str(self._folder), *names], on_progress, cancel)
        if sources != [path]:  # a prefix is named without what follows it
            inside = str(PurePosixPath(inside).with_name(path.name))
        self._write({**known, str(path): {"stamp": stamp, "inside": inside}})
        return inside

    def link(self, inside: str, folder: PurePosixPath) -> None:
        """Have the files of a copied folder in another folder inside too, without a second copy of them.

        Raises:
            StepError: it cannot be; HostError.
        """
        script = 'mkdir -p "$2" && cp -aln "$1/." "$2/"'
        done = self._host.run(["sh", "-c", script, "sh", inside, str(folder)], timeout_s=_LOOK_TIMEOUT_S)
        if not done.ok:
            raise StepError(make_code("copy_failed", file=str(folder), detail=done.stderr[-500:]))

    def fetch(self, inside: str, path: Path, on_progress: OnProgress, cancel: CancelToken) -> None:
        """Copy a file out to a name that is not taken, read it back, and remove the one inside.

        Raises:
            StepError: no room, the name is taken, or the copy differs; HostError; CancelledError.
        """
        self._copy(["out", inside, self._host.to_linux_path(path)], on_progress, cancel)
        self.discard(inside)

    def discard(self, inside: str) -> None:
        """Remove a file that was made inside."""
        self._host.run(["rm", "-f", "--", inside], timeout_s=_LOOK_TIMEOUT_S)

    def origin(self, inside: str) -> Path | None:
        """Return the file of Windows that a copy was made of, where it is still there."""
        for name, entry in self._read().items():
            if entry["inside"] == inside and _sources(Path(name)):
                return Path(name)
        return None

    def _check_room(self, need_bytes: int) -> None:
        # Of the drive too: the distribution's disk grows, and believes in more room than there is.
        have_bytes = self._host.free_disk_bytes(self._folder)
        if have_bytes < need_bytes + RESERVE_BYTES:
            raise StepError(_disk_full(self._folder.as_posix(), have_bytes, need_bytes + RESERVE_BYTES))

    def _is_there(self, inside: str, sources: Sequence[Path]) -> bool:
        suffixes = [source.suffix for source in sources] if len(sources) > 1 else [""]
        script = 'for file; do [ -e "$file" ] || exit 1; done'
        files = [inside + suffix for suffix in suffixes]
        return self._host.run(["sh", "-c", script, "sh", *files], timeout_s=_LOOK_TIMEOUT_S).ok

    def _copy(self, arguments: Sequence[str], on_progress: OnProgress, cancel: CancelToken) -> str:
        argv = [self._python, "-c", _SCRIPT.read_text("utf-8"), *arguments]
        process = self._host.start(argv)
        last: dict = {}
        try:
            while not process.drained:
                line = process.read_line(_POLL_S)
                if cancel.cancelled:
                    raise CancelledError
                if line is None:
                    continue
                last = _json(line) or {"detail": line}
                if "done" in last:
                    on_progress(Progress(last["done"], last["total"], "bytes"))
        finally:
            process.stop(_STOP_GRACE_S)
        if "path" in last:
            return last["path"]
        if last.get("error") == "disk_full":
            raise StepError(_disk_full(arguments[-1], *last["numbers"]))
        detail = str(last.get("detail") or last.get("error") or process.exit_code)
        raise StepError(make_code("copy_failed", file=arguments[-1], detail=detail))

    def _read(self) -> dict[str, dict]:
        try:
            known = json.loads(self._index.read_text("utf-8"))
            return {name: entry for name, entry in known.items() if {"stamp", "inside"} <= entry.keys()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as problem:  # everything is copied once more
            LOG.warning("%s is not understood: %s", self._index, problem)
            return {}

    def _write(self, known: dict[str, dict]) -> None:
        try:
            write_whole(self._index, json.dumps(known, ensure_ascii=False, indent=1))
        except OSError as problem:  # what is forgotten is only copied again
            LOG.warning("%s could not be written: %s", self._index, problem)


def _sources(path: Path) -> list[Path]:
    """What a path stands for: itself, or the two files of a converted data set; nothing where it is not."""
    if path.exists():
        return [path]
    pair = [path.with_name(path.name + suffix) for suffix in (".bin", ".idx")]
    return pair if all(file.is_file() for file in pair) else []


def _stamp(path: Path) -> Iterator[tuple[str, int, int]]:
    if not path.is_dir():
        found = path.stat()
        yield path.name, found.st_size, found.st_mtime_ns
        return
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            file = Path(folder, name)
            found = file.stat()
            yield file.relative_to(path).as_posix(), found.st_size, found.st_mtime_ns


def _json(line: str) -> dict | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _disk_full(path: str, have_bytes: int, need_bytes: int) -> Code:
    have_gb, need_gb = round(have_bytes / 1e9, 1), round(need_bytes / 1e9, 1)
    return make_code("disk_full", path=path, have_gb=have_gb, need_gb=need_gb)
