"""Copies files between Windows and the distribution; runs inside it, by itself, on any Python 3.

    python -c <this text> in FOLDER SOURCE...     into FOLDER/<hash of the content>/, once
    python -c <this text> out SOURCE TARGET       to TARGET, which is read back

Progress is a line of JSON, {"done": bytes, "total": bytes}; the last line says {"path": ...}, or {"error":
"disk_full" | "changed" | "differs" | "os", ...}. What is unfinished has another name, and is removed.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time

assert sys.platform == "linux"  # nothing of Windows is here, neither for people nor for the type checker

BLOCK = 8 << 20
PART = ".part-"


class CopyError(Exception):
    """Why a copy does not count, and numbers that go with it."""


def tell(record):
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


class Progress:
    def __init__(self, total):
        self.done, self.total, self.told = 0, total, 0.0

    def add(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.told > 0.2 or self.done == self.total:
            self.told = now
            tell({"done": self.done, "total": self.total})


def files_of(path):
    """(absolute, relative) of the file, or of all files below the folder, in order."""
    if not os.path.isdir(path):
        return [(path, os.path.basename(path))]
    found = []
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            full = os.path.join(folder, name)
            if os.path.isfile(full):
                found.append((full, os.path.join(os.path.basename(path), os.path.relpath(full, path))))
    return found


def copy(source, target, progress):
    """Copy one file, flush it to the disk and return the SHA-256 of what was read."""
    before, digest = os.stat(source), hashlib.sha256()
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(source, "rb") as read, open(target, "wb") as written:
        while block := read.read(BLOCK):
            digest.update(block)
            written.write(block)
            progress.add(len(block))
        written.flush()
        os.fsync(written.fileno())
    after = os.stat(source)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise CopyError("changed")
    return digest.hexdigest()


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def copy_in(folder, sources):
    files = [pair for source in sources for pair in files_of(source)]
    progress = Progress(sum(os.path.getsize(full) for full, _ in files))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in os.listdir(folder):  # of a copy that was cut off
            if old.startswith(PART):
                shutil.rmtree(os.path.join(folder, old))
        part, key = os.path.join(folder, f"{PART}{os.getpid()}"), hashlib.sha256()
        try:
            for full, relative in files:
                digest = copy(full, os.path.join(part, relative), progress)
                key.update(f"{relative}\0{digest}\n".encode("utf-8", "surrogateescape"))
            place = os.path.join(folder, key.hexdigest()[:32])
            if not os.path.isdir(place):
                os.rename(part, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return os.path.join(place, os.path.basename(sources[0]))


def copy_out(source, target):
    size, found = os.path.getsize(source), os.statvfs(os.path.dirname(target))
    if found.f_bavail * found.f_frsize < size:
        raise CopyError("disk_full", found.f_bavail * found.f_frsize, size)
    part, progress = target + ".part", Progress(2 * size)
    try:
        digest = copy(source, part, progress)
        if sha256(part) != digest:
            raise CopyError("differs")
        progress.add(size)
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(part, target)
    finally:
        if os.path.exists(part):
            os.unlink(part)
    return target


def main(argv):
    try:
        path = copy_in(argv[1], argv[2:]) if argv[0] == "in" else copy_out(argv[1], argv[2])
        answer = {"path": path}
    except CopyError as problem:
        word, *numbers = problem.args
        answer = {"error": word, "numbers": numbers}
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        answer = {"error": "disk_full" if full else "os", "numbers": [0, 0], "detail": str(problem)}
    tell(answer)
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
