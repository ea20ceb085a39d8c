"""Run by a Windows Python under Wine: calls the played wsl.exe as programs do, and prints what came of it.

python under_wine.py WSL_EXE DISTRIBUTION
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

from wsl_bootstrap.hosts.windows import WindowsHost, WslFailedError
from wsl_bootstrap.hosts.windows_facts import ScriptedWindows
from wsl_bootstrap.jobs.job import WslJob

WSL, NAME = sys.argv[1:]
BYTES = bytes(range(256)) * 2000  # more than a pipe holds, with every byte and every kind of line end


def call(
    *arguments: str, env: dict[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [WSL, *arguments], env={**os.environ, **(env or {})}, input=stdin, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip


def inside(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return call("-d", NAME, "-e", *argv, stdin=stdin)


def killed() -> str:
    """Kill wsl.exe and return what its command inside did about that."""
    script = 'trap "echo hung up > /root/hup; exit" HUP; echo up; while :; do sleep 0.1; done'
    with subprocess.Popen([WSL, "-d", NAME, "-e", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    wait = "for i in $(seq 100); do [ -s /root/hup ] && break; sleep 0.1; done; cat /root/hup"
    return inside("sh", "-c", wait).stdout.decode()


def conversation() -> list[str]:
    """Speak with a command line by line, then close its input."""
    script = 'read -r x; echo "got $x"; cat; echo end'
    line, pipe = [WSL, "-d", NAME, "-e", "sh", "-c", script], subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"stop\n")
        process.stdin.flush()
        first = process.stdout.readline().decode()
        process.stdin.close()
        return [first, process.stdout.readline().decode(), str(process.wait(60))]


def our_host() -> dict[str, object]:
    """What the set-up's own host and jobs make of it."""
    host = WindowsHost(ScriptedWindows(Path(os.environ["RUNNER_WINDOWS_FACTS"])), NAME, wsl=WSL)
    work = Path(os.environ["SYSTEMDRIVE"] + "\\", "张 三")
    process = host.start(["sh", "-c", "echo from the job; exec sleep 100"], cwd=work)
    line = process.read_line(60)
    process.stop(grace_s=5)
    job = WslJob(host, "a-job", PurePosixPath("/run/records"))
    started = job.line(["sh", "-c", "echo up; exec sleep 100"])
    with subprocess.Popen(started.argv, env={**os.environ, **started.env}, stdout=subprocess.PIPE) as held:
        assert held.stdout is not None
        held.stdout.readline()
        alive = job.is_alive()
        job.signal(force=False)
        code = held.wait(60)
    try:
        WindowsHost(ScriptedWindows(Path(os.environ["RUNNER_WINDOWS_FACTS"])), "Gone", wsl=WSL).wsl.manage(
            "--terminate", "Gone", timeout_s=60
        )
        refused = ""
    except WslFailedError as problem:
        refused = problem.code.id
    return {
        "run": host.run(["printf", "%s|%s", "a b", "$HOME \"' \\"], timeout_s=60).stdout,
        "cwd": host.run(["pwd"], timeout_s=60, cwd=work).stdout,
        "line": line,
        "stopped": process.exit_code is not None,
        "job": [alive, code, job.is_alive()],
        "refused": refused,
    }


def main() -> None:
    """Print one JSON object."""
    echoed, both = inside("cat", stdin=BYTES), inside("sh", "-c", "printf out; printf err >&2")
    missing = call("-d", "none", "-e", "true", env={"WSL_UTF8": "0"})
    variables = {"WSLENV": "PLACE/p:WORD/u", "PLACE": "C:\\x y\\z", "WORD": "字", "UNNAMED": "no"}
    passed = call(
        "-d", NAME, "-e", "sh", "-c", 'printf "%s|%s|%s" "$PLACE" "$WORD" "$UNNAMED"', env=variables
    )
    ends = ("exit 3", "kill -9 $$", "kill -TERM $$")
    found = {
        "exact": echoed.stdout == BYTES,
        "streams": [both.stdout.decode(), both.stderr.decode()],
        "own_failure": [missing.returncode, base64.b64encode(missing.stdout).decode()],
        "ends": [inside("sh", "-c", script).returncode for script in ends],
        "missing_program": inside("no-such-program").returncode,
        "passed": passed.stdout.decode(),
        "conversation": conversation(),
        "killed": killed(),
        "host": our_host(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
