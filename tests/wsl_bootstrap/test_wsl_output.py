"""Bytes, error paths and exit codes of wsl.exe."""

from __future__ import annotations

import pytest

from wsl_bootstrap.codes import REGISTRY
from wsl_bootstrap.wsl_errors import _BY_CODE, failure_code, meaning_of
from wsl_bootstrap.wsl_output import (
    Ended,
    Exit,
    WslError,
    decode,
    find_error,
    names_offered,
    understand_exit,
)

ZH = "不存在具有所提供名称的分发。\r\n错误代码: Wsl/Service/WSL_E_DISTRO_NOT_FOUND\r\n"
EN = "There is no distribution with the supplied name.\r\nError code: Wsl/Service/WSL_E_DISTRO_NOT_FOUND\r\n"


@pytest.mark.parametrize("message", [ZH, EN, "上上上\r\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16"])
def test_its_own_messages_are_decoded(message: str, encoding: str) -> None:
    assert decode(message.encode(encoding)) == message.replace("\r\n", "\n")


@pytest.mark.parametrize("printed", ["loss 1.5\n", "训练 上上\n", "one\ntwo\n"])
@pytest.mark.parametrize("message", [ZH, EN])
def test_a_linux_programs_words_may_stand_before_a_message(printed: str, message: str) -> None:
    assert decode(printed.encode() + message.encode("utf-16-le")) == printed + message.replace("\r\n", "\n")


def test_what_is_neither_is_marked_and_kept() -> None:
    assert decode(b"\xff\xfe\xfa ok") == "\ufffd\ufffd\ufffd ok"
    assert decode(b"") == ""
    assert decode(b"\x00ok").endswith("\ufffd")  # half a letter; no exception, whatever comes


@pytest.mark.parametrize("text", [ZH, EN])
def test_the_error_path_is_read_in_every_language(text: str) -> None:
    assert find_error(text) == WslError(("Service",), "WSL_E_DISTRO_NOT_FOUND")


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("Wsl/Service/CreateInstance/CreateVm/HCS/HCS_E_CONNECTION_TIMEOUT",) * 2,
        ("Error: 0x1bc", "0x1bc"),
        ("错误: 0x800701BC", "0x800701bc"),
        ("0x80370102 … Wsl/Service/0x8007019e", "Wsl/Service/0x8007019e"),
        ("ran for 0x1 times", None),
        ("", None),
    ],
)
def test_tokens(text: str, token: str | None) -> None:
    found = find_error(text)
    assert (found.token if found else None) == token


@pytest.mark.parametrize(
    ("returncode", "output", "end"),
    [
        (0, "", Exit(Ended.BY_EXIT, 0)),
        (3, "", Exit(Ended.BY_EXIT, 3)),
        (127, "", Exit(Ended.BY_EXIT, 127)),
        (9, "", Exit(Ended.BY_SIGNAL, 9)),  # the raw wait status of a kill for want of memory
        (137, "", Exit(Ended.BY_SIGNAL, 9)),  # the same, told by a shell
        (139, "", Exit(Ended.BY_SIGNAL, 11)),  # a segmentation fault with a core dump
        (143, "", Exit(Ended.BY_SIGNAL, 15)),
        (4294967295, "", Exit(Ended.BY_WINDOWS, 0xFFFFFFFF)),
        (-1, "", Exit(Ended.BY_WINDOWS, 0xFFFFFFFF)),
        (-444, "", Exit(Ended.BY_WINDOWS, 0xFFFFFE44)),
        (-9, "", Exit(Ended.BY_SIGNAL, 9)),  # the program that plays wsl.exe was ended itself
        (0xFFFFFE44, "", Exit(Ended.BY_WINDOWS, 0xFFFFFE44)),
        (255, "", Exit(Ended.BY_EXIT, 255)),
        (255, ZH, Exit(Ended.BY_WINDOWS, 0xFFFFFFFF)),  # -1 through a system with eight bits
        (1, ZH, Exit(Ended.BY_WINDOWS, 1)),  # old versions
        (2, ZH, Exit(Ended.BY_EXIT, 2)),  # a program that prints such a path is not a failure of wsl.exe
    ],
)
def test_exit_codes(returncode: int, output: str, end: Exit) -> None:
    assert understand_exit(returncode, output) == end
    assert end.code == (-end.number if end.ended is Ended.BY_SIGNAL else end.number)


@pytest.mark.parametrize(
    ("text", "exit_code", "code_id", "retryable"),
    [
        (
            "Wsl/Service/CreateInstance/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED",
            -1,
            "virtualization_off",
            False,
        ),
        ("Wsl/Service/CreateInstance/CreateVm/HCS/ERROR_NOT_SUPPORTED", -1, "virtualization_off", False),
        ("Wsl/Service/CreateInstance/CreateVm/HCS/ERROR_FILE_NOT_FOUND", -1, "wsl_package_broken", False),
        ("Wsl/Service/CreateInstance/MountVhd/HCS/ERROR_FILE_NOT_FOUND", -1, "distro_disk_missing", False),
        ("Wsl/Service/CreateInstance/MountVhd/ERROR_FILE_NOT_FOUND", -1, "distro_disk_missing", False),
        ("Wsl/Service/ERROR_FILE_NOT_FOUND", -1, "wsl_failed", False),
        ("Wsl/Service/E_UNEXPECTED", -1, "vm_crashed", False),
        ("Wsl/InstallDistro/WININET_E_NAME_NOT_RESOLVED", -1, "wsl_download_unreachable", True),
        ("", 50, "wsl_not_installed", False),
        ("", 0xFFFFFE44, "wsl_kernel_missing", False),
        ("", 0xFFFFFFFF, "wsl_failed", False),
        ("Wsl/Service/0x12345678", -1, "wsl_failed", False),
    ],
)
def test_meanings(text: str, exit_code: int, code_id: str, retryable: bool) -> None:
    code, again = failure_code("wsl -d X", exit_code & 0xFFFFFFFF, text)
    assert (code.id, again) == (code_id, retryable)
    assert code.args["token"] == (text or f"0x{exit_code & 0xFFFFFFFF:08x}")


def test_every_known_error_has_a_registered_code_and_numbers_are_lower_case() -> None:
    for code, meaning in _BY_CODE.items():
        assert REGISTRY[meaning.code_id].args == ("command", "token")
        assert not code.startswith("0x") or code == code.lower()
        assert meaning_of(WslError(("Service",), code), 1) == meaning


@pytest.mark.parametrize(
    "before",
    ["The following is a list of valid distributions.\n\n", "以下是可安装的有效分发的列表。\n使用…\n\n", ""],
)
def test_the_systems_that_wsl_offers(before: str) -> None:
    table = "NAME            FRIENDLY NAME\nUbuntu          Ubuntu\nUbuntu-24.04    Ubuntu 24.04 LTS\n\n"
    assert names_offered(before + table) == ["Ubuntu", "Ubuntu-24.04"]


def test_an_error_offers_nothing() -> None:
    assert names_offered("操作失败。\n错误代码: Wsl/WININET_E_NAME_NOT_RESOLVED\n") == []
