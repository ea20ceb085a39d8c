"""One call of wsl.exe: which generation answers, what it says, and how it ends."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command_line import Request, UsageError, options, parse
from distributions import FLAGS, INSTALLED, INSTALLING, WSL2, Distributions, is_wsl2
from machine import Machine
from messages import MESSAGES
from world import World, WslError

NOT_INSTALLED, NO_KERNEL, FAILED = 50, -444, -1
NEWEST = "2.6.1.0"
UNKNOWN_TO_OLD = (
    "--status", "--version", "--install", "--update", "--import-in-place", "--manage", "--mount", "--unmount",
    "--uninstall",
)  # fmt: skip
SIZE = re.compile(r"(\d+)([KMGT]?B)", re.IGNORECASE)
UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


class Wsl:
    """Answers for one computer."""

    def __init__(self, world: World) -> None:
        self._world, self._machine = world, Machine(world)
        self._distributions = Distributions(world, self._machine)
        self._words = MESSAGES[world.own.get("language", "en")]

    def call(self, line: str) -> int:
        """Do what a raw command line says; return the exit code, of which -1 is wsl.exe's own failure."""
        with self._world.changing() as script:
            script.setdefault("standin", {}).setdefault("calls", []).append(line)
        try:
            request = parse(line)
            return self._stub(request) or self._carry_out(request)
        except UsageError as error:
            self._say(error.key, error.option)
            return FAILED
        except WslError as error:
            self._say(error.key, error.code)
            return error.exit_code

    def _stub(self, request: Request) -> int:
        """Return what the generations before the Store's answer instead of working; 0 where they work."""
        personality, asked = self._world.personality, request.manage
        if personality == "stub" and asked != "--install":
            self._say("not_installed")
            return NOT_INSTALLED
        if personality == "inbox-old" and asked in UNKNOWN_TO_OLD:
            raise UsageError("invalid", str(asked))
        if personality == "inbox-no-kernel" and (asked in (None, "--status", "--version", "--import")):
            self._say("no_kernel")
            return NO_KERNEL
        return 0

    def _carry_out(self, request: Request) -> int:
        command = request.manage or "run"
        fault = self._world.take_fault(command) or {}
        time.sleep(fault.get("delay_s", 0))
        if "code" in fault and not fault.get("after"):
            raise WslError(fault["code"])
        if request.manage is not None:
            method: Callable[[list[str]], int] = getattr(
                self, "_" + request.manage.strip("-").replace("-", "_")
            )
            code = method(request.words)
        else:
            found = self._world.distribution(request.distribution, request.distribution_id)
            code = self._run(found, request, fault.get("crash_after_s"))
        if "code" in fault:
            raise WslError(fault["code"])
        return code

    def _run(self, found: dict[str, Any], request: Request, crash_after_s: float | None = None) -> int:
        if is_wsl2(found):
            self._distributions.require_machine("CreateInstance/CreateVm")
        return self._machine.run(
            found, request.argv, request.script, login=request.shell == "login", user=request.user,
            folder=request.folder, env=os.environ, crash_after_s=crash_after_s,
        )  # fmt: skip

    # Saying

    def _help(self, words: list[str]) -> int:
        raise WslError("", "usage")

    def _version(self, words: list[str]) -> int:
        facts = self._world.facts
        self._say("version", facts["wsl_package"], facts.get("build", 26100))
        return 0

    def _status(self, words: list[str]) -> int:
        facts = self._world.facts
        names = {one["guid"]: one["name"] for one in facts.get("distributions", [])}
        if (default := names.get(facts.get("default_distribution"))) is not None:
            self._say("status_default", default)
        self._say("status_version")
        return 0

    def _list(self, words: list[str]) -> int:
        short = {"-q": "--quiet", "-v": "--verbose", "-o": "--online"}
        _, chosen = options([short.get(word, word) for word in words],
                            ("--quiet", "--verbose", "--online", "--running", "--all"))  # fmt: skip
        quiet, verbose, online = (f"--{name}" in chosen for name in ("quiet", "verbose", "online"))
        every, running = "--all" in chosen, "--running" in chosen
        if (quiet and verbose) or (every and running) or (online and (verbose or every)):
            raise WslError("", "usage")
        if online:
            return self._list_online()
        facts = self._world.facts
        default = facts.get("default_distribution")
        known = sorted(facts.get("distributions", []), key=lambda one: one["guid"] != default)
        if verbose:
            return self._list_verbose(known, default)
        if running:
            known = [one for one in known if self._machine.pid(one) is not None]
            if not known and not quiet:
                self._say("none_running")
                return FAILED
        if not every:
            known = [one for one in known if one.get("state", INSTALLED) == INSTALLED]
        if not quiet:
            if not known:
                raise WslError("", "no_distribution")
            self._say("heading")
        for one in known:
            marked = one["guid"] == default and not quiet
            self._print(self._words["default"].format(one["name"]) if marked else one["name"])
        return 0

    def _list_verbose(self, known: list[dict[str, Any]], default: str | None) -> int:
        if not known:
            raise WslError("", "no_distribution")
        width = max(len("NAME"), *(len(one["name"]) for one in known)) + 4
        self._print(f"  {'NAME':<{width}}{'STATE':<16}VERSION")
        for one in known:
            state = "Stopped" if self._machine.pid(one) is None else "Running"
            state = "Installing" if one.get("state", INSTALLED) == INSTALLING else state
            mark = "*" if one["guid"] == default else " "
            self._print(f"{mark} {one['name']:<{width}}{state:<16}{2 if is_wsl2(one) else 1}")
        return 0

    def _list_online(self) -> int:
        images = self._world.own.get("images", {})
        if not images:
            raise WslError("Wsl/WININET_E_NAME_NOT_RESOLVED")
        self._say("online")
        width = max(len("NAME"), *map(len, images)) + 4
        self._print(f"{'NAME':<{width}}FRIENDLY NAME")
        for name in images:
            self._print(f"{name:<{width}}{name.replace('-', ' ')} LTS")
        return 0

    # Changing

    def _set_default(self, words: list[str]) -> int:
        found = self._world.distribution(_first(words, "--set-default"))
        with self._world.changing() as script:
            script["facts"]["default_distribution"] = found["guid"]
        return self._done()

    def _set_default_version(self, words: list[str]) -> int:
        _version_of(_first(words, ""))
        return self._done()

    def _set_version(self, words: list[str]) -> int:
        found = self._world.distribution(_first(words, "--set-version"))
        version = _version_of(words[1] if len(words) > 1 else "")
        if version == 2:
            self._distributions.require_machine("CreateVm")
        self._machine.terminate(found)
        self._distributions.change(found["guid"], flags=FLAGS | (WSL2 if version == 2 else 0))
        return self._done()

    def _terminate(self, words: list[str]) -> int:
        self._machine.terminate(self._world.distribution(_first(words, "--terminate")))
        return self._done()

    def _shutdown(self, words: list[str]) -> int:
        options(words, ("--force",))
        for one in self._world.distributions():
            self._machine.terminate(one)
        return 0

    def _unregister(self, words: list[str]) -> int:
        self._distributions.unregister(self._world.distribution(_first(words, "--unregister")))
        return self._done()

    def _import(self, words: list[str]) -> int:
        places, chosen = options(words, ("--vhd",), {"--version": "version"})
        if len(places) < 3:
            raise WslError("Wsl/E_INVALIDARG", "bad_argument")
        name, folder, file = places
        if file.lower().endswith((".vhd", ".vhdx")) and "--vhd" not in chosen:
            raise WslError("", "vhd_flag")
        self._distributions.register(name, folder, file, _version_of(chosen.get("version", "2")))
        return self._done()

    def _import_in_place(self, words: list[str]) -> int:
        if len(words) != 2:
            raise WslError("", "usage")
        self._distributions.register_in_place(*words)
        return self._done()

    def _export(self, words: list[str]) -> int:
        places, chosen = options(words, ("--vhd",), {"--format": "format"})
        if len(places) != 2:
            raise WslError("", "usage")
        name, file = places
        kind = chosen.get("format", "vhd" if "--vhd" in chosen else "tar")
        self._distributions.export(self._world.distribution(name), file, kind)
        return 0 if file == "-" else self._done()

    def _manage(self, words: list[str]) -> int:
        names = {"--set-sparse": "sparse", "-s": "sparse", "--move": "move", "-m": "move",
                 "--resize": "resize", "-r": "resize", "--set-default-user": "user"}  # fmt: skip
        places, chosen = options(words, ("--allow-unsafe",), names)
        if len(places) != 1:
            raise WslError("", "usage")
        found = self._world.distribution(places[0])
        wishes = {name: value for name, value in chosen.items() if name != "--allow-unsafe"}
        if len(wishes) != 1:
            raise WslError("", "usage")
        ((wish, value),) = wishes.items()
        if wish == "sparse":
            if value.lower() not in ("true", "false", "1", "0"):
                raise WslError("Wsl/E_INVALIDARG", "bad_argument")
            self._distributions.set_sparse(found, value.lower() in ("true", "1"), "--allow-unsafe" in chosen)
            return 0
        if wish == "move":
            self._distributions.move(found, value)
        elif wish == "resize":
            self._distributions.resize(found, _size(value))
        else:
            uid = self._machine.account(found, value).pw_uid
            self._distributions.set(found["guid"], default_uid=uid)
        return self._done()

    def _mount(self, words: list[str]) -> int:
        names = {"--options": "options", "-o": "options", "--partition": "partition", "-p": "partition",
                 "--type": "type", "-t": "type", "--name": "name", "-n": "name"}  # fmt: skip
        places, chosen = options(words, ("--vhd", "--bare"), names)
        if len(places) != 1:
            raise WslError("", "usage")
        (disk,) = places
        self._distributions.require_machine("AttachDisk/MountDisk")
        if "--vhd" not in chosen and not self._world.facts.get("elevated"):
            raise WslError(
                "Wsl/Service/AttachDisk/MountDisk/WSL_E_ELEVATION_NEEDED_TO_MOUNT_DISK", "not_elevated"
            )
        if "--vhd" in chosen and not self._world.local_path(disk).is_file():
            raise WslError("Wsl/Service/AttachDisk/MountDisk/HCS/ERROR_FILE_NOT_FOUND")
        name = chosen.get("name") or re.sub(r"\W", "", disk)
        if "/" in name or name in (".", ".."):
            raise WslError("Wsl/Service/WSL_E_VM_MODE_INVALID_MOUNT_NAME")
        mounted = self._world.own.get("mounted", {})
        if "--bare" in chosen and disk in mounted:
            raise WslError("Wsl/Service/AttachDisk/MountDisk/WSL_E_USER_VHD_ALREADY_ATTACHED")
        if "--bare" not in chosen and name in mounted.values():
            raise WslError("Wsl/Service/WSL_E_VM_MODE_MOUNT_NAME_ALREADY_EXISTS")
        with self._world.changing() as script:
            script["standin"].setdefault("mounted", {})[disk] = "" if "--bare" in chosen else name
        if "--bare" in chosen:
            return self._done()
        self._say("mounted", name, disk)
        return 0

    def _unmount(self, words: list[str]) -> int:
        with self._world.changing() as script:
            mounted = script["standin"].setdefault("mounted", {})
            if words and words[0] not in mounted:
                raise WslError("Wsl/Service/DetachDisk/ERROR_FILE_NOT_FOUND")
            for disk in words or list(mounted):
                del mounted[disk]
        return self._done()

    def _install(self, words: list[str]) -> int:
        names = {"--distribution": "distribution", "-d": "distribution", "--from-file": "file", "-f": "file",
                 "--name": "name", "--location": "location", "-l": "location", "--version": "version",
                 "--vhd-size": "vhd_size"}  # fmt: skip
        flags = {"--no-launch", "-n", "--web-download", "--no-distribution", "--enable-wsl1", "--pre-release",
                 "--legacy", "--fixed-vhd", "--prompt-before-exit"}  # fmt: skip
        places, chosen = options(words, flags, names)
        asked = chosen.get("distribution") or next(iter(places), None)
        for one, wrong in (("--no-distribution", asked), ("file", asked and "file" in chosen)):
            if one in chosen and wrong:
                raise WslError("Wsl/E_INVALIDARG", "not_together")
        if "--fixed-vhd" in chosen and "vhd_size" not in chosen:
            raise WslError("Wsl/E_INVALIDARG", "bad_argument")
        if "vhd_size" in chosen:
            _size(chosen["vhd_size"])
        if "file" not in chosen:
            if self._world.facts.get("wsl_package") is None or "--no-distribution" in chosen:
                self._install_package()
            if not self._world.has_machine():
                self._say("restart")
                return 0
            if "--no-distribution" in chosen:
                return self._done()
        elif self._world.personality == "stub":
            raise WslError("", "not_installed", NOT_INSTALLED)
        file = chosen["file"] if "file" in chosen else self._image(asked)
        name = chosen.get("name") or (None if "file" in chosen else asked)
        found = self._distributions.register(
            name, chosen.get("location"), file, _version_of(chosen.get("version", "2"))
        )
        self._say("installed", found["name"])
        if {"--no-launch", "-n"} & chosen.keys():
            return 0
        self._say("launching", found["name"])
        return self._run(found, Request())

    def _image(self, name: str | None) -> Path:
        images = self._world.own.get("images", {})
        if not images:
            raise WslError("Wsl/InstallDistro/WININET_E_NAME_NOT_RESOLVED")
        if name is None:
            return Path(next(iter(images.values())))
        if name not in images:
            raise WslError("Wsl/InstallDistro/WSL_E_DISTRO_NOT_FOUND", "no_such_image")
        return Path(images[name])

    def _update(self, words: list[str]) -> int:
        options(words, ("--web-download", "--pre-release", "--confirm", "--prompt"))
        self._install_package()
        return self._done()

    def _uninstall(self, words: list[str]) -> int:
        self._shutdown([])
        with self._world.changing() as script:
            script["facts"]["wsl_package"] = None
            script["standin"].pop("personality", None)
        return 0

    def _install_package(self) -> None:
        with self._world.changing() as script:
            script["facts"]["wsl_package"] = NEWEST
            script.get("standin", {}).pop("personality", None)

    # Words

    def _done(self) -> int:
        self._say("done")
        return 0

    def _say(self, key: str, *facts: object) -> None:
        self._print(self._words[key].format(*facts))

    def _print(self, text: str) -> None:
        utf8 = os.environ.get("WSL_UTF8") == "1" and self._world.own.get("obeys_utf8", True)
        words = (text + "\n").replace("\n", "\r\n").encode("utf-8" if utf8 else "utf-16-le")
        sys.stdout.buffer.write(words)
        sys.stdout.buffer.flush()


def _first(words: list[str], option: str) -> str:
    if not words:
        raise UsageError("no_value", option)
    return words[0]


def _version_of(word: str) -> int:
    if word not in ("1", "2"):
        raise WslError("Wsl/ERROR_VERSION_PARSE_ERROR")
    return int(word)


def _size(word: str) -> int:
    match = SIZE.fullmatch(word)
    if match is None:
        raise WslError("Wsl/E_INVALIDARG", "bad_argument")
    return int(match[1]) * UNITS[match[2].upper()]
