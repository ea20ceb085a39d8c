"""Every error of wsl.exe that has a known cause, and the code that tells the person of it."""

from __future__ import annotations

from dataclasses import dataclass

from wsl_bootstrap.codes import Code, make_code
from wsl_bootstrap.wsl_output import NO_KERNEL, NOT_INSTALLED, WslError, find_error


@dataclass(frozen=True)
class Meaning:
    """What an error comes down to; `retryable` where the same call may well pass a moment later."""

    code_id: str
    retryable: bool = False


# By the name that wsl.exe prints, and by the number that older versions print for the same.
_SYNONYMS: tuple[tuple[Meaning, tuple[str, ...]], ...] = (
    (
        Meaning("virtualization_off"),
        ("HCS_E_HYPERV_NOT_INSTALLED", "0x80370102", "HCS_E_SERVICE_NOT_AVAILABLE"),
    ),
    (Meaning("vm_no_answer", retryable=True), ("HCS_E_CONNECTION_TIMEOUT", "0x80370109")),
    (Meaning("vm_feature_blocked"), ("0x80370114",)),
    (Meaning("wsl_kernel_missing"), ("0x1bc", "0x800701bc")),
    (Meaning("wsl_feature_off"), ("WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED", "0x80040321", "0x8007019e")),
    (Meaning("vm_platform_off"), ("WSL_E_VIRTUAL_MACHINE_PLATFORM_REQUIRED", "0x8004032d")),
    (Meaning("wsl_package_broken"), ("REGDB_E_CLASSNOTREG", "0x80040154")),
    (Meaning("wsl_path_missing"), ("ERROR_PATH_NOT_FOUND", "0x80070003")),
    (Meaning("distro_disk_compressed"), ("0xc03a001a",)),
    (Meaning("wsl_bad_state", retryable=True), ("E_ILLEGAL_STATE_CHANGE", "0x8000000d")),
    (Meaning("wsl_legacy_console"), ("WSL_E_CONSOLE", "0x80040306")),
    (Meaning("distro_gone"), ("WSL_E_DISTRO_NOT_FOUND", "0x80040302")),
    (Meaning("distro_no_default"), ("WSL_E_DEFAULT_DISTRO_NOT_FOUND", "0x80040301")),
    (Meaning("distro_user_missing"), ("WSL_E_USER_NOT_FOUND", "0x80040308")),
    (Meaning("distro_import_failed"), ("WSL_E_IMPORT_FAILED", "0x8004030b")),
    (Meaning("rootfs_not_linux"), ("WSL_E_NOT_A_LINUX_DISTRO", "0x80040326")),
    (Meaning("wsl_component_failed"), ("WSL_E_INSTALL_COMPONENT_FAILED", "0x80040329")),
    (Meaning("wsl_windows_too_old"), ("WSL_E_OS_NOT_SUPPORTED", "0x80040327")),
    (Meaning("distro_disk_damaged"), ("WSL_E_DISK_CORRUPTED", "0x8004032f")),
    (Meaning("vm_crashed"), ("WSL_E_VM_CRASHED", "0x80040332", "E_UNEXPECTED", "0x8000ffff")),
    (Meaning("account_system"), ("WSL_E_LOCAL_SYSTEM_NOT_SUPPORTED", "0x8004032e")),
    (
        Meaning("wsl_mixed_rights"),
        ("WSL_E_LOWER_INTEGRITY", "0x8004030f", "WSL_E_HIGHER_INTEGRITY", "0x80040310"),
    ),
    (Meaning("distro_name_taken"), ("ERROR_ALREADY_EXISTS", "0x800700b7")),
    (
        Meaning("wsl_download_unreachable", retryable=True),
        (
            *("WININET_E_NAME_NOT_RESOLVED", "0x80072ee7", "WININET_E_CANNOT_CONNECT", "0x80072efd"),
            *("WININET_E_TIMEOUT", "0x80072ee2", "WININET_E_CONNECTION_RESET", "0x80072eff", "0x80072746"),
        ),
    ),
    (Meaning("windows_disk_full"), ("ERROR_DISK_FULL", "0x80070070")),
    (Meaning("download_damaged", retryable=True), ("TRUST_E_BAD_DIGEST", "0x80096010")),
    (Meaning("wsl_forbidden"), ("ERROR_ACCESS_DISABLED_BY_POLICY", "0x800704ec")),
)
_BY_CODE = {code: meaning for meaning, codes in _SYNONYMS for code in codes}
# The same code means one thing in one place and something else in another. A disk is mounted by the machine's
# own service (`MountVhd/HCS/…`), so the disk comes first.
_IN_CONTEXT = {
    ("MountVhd", "ERROR_FILE_NOT_FOUND"): Meaning("distro_disk_missing"),
    ("MountDisk", "ERROR_FILE_NOT_FOUND"): Meaning("distro_disk_missing"),
    ("HCS", "ERROR_FILE_NOT_FOUND"): Meaning("wsl_package_broken"),
    ("HCS", "0x80070002"): Meaning("wsl_package_broken"),
    ("HCS", "ERROR_NOT_SUPPORTED"): Meaning("virtualization_off"),
    ("HCS", "0x80070032"): Meaning("virtualization_off"),
}
_BY_EXIT = {NOT_INSTALLED: Meaning("wsl_not_installed"), NO_KERNEL: Meaning("wsl_kernel_missing")}


def meaning_of(error: WslError | None, exit_code: int) -> Meaning:
    """Return what an error of wsl.exe comes down to; `wsl_failed` when its cause is not known."""
    if error is not None:
        for (context, code), meaning in _IN_CONTEXT.items():
            if context in error.contexts and code == error.code:
                return meaning
        if error.code in _BY_CODE:
            return _BY_CODE[error.code]
    return _BY_EXIT.get(exit_code, Meaning("wsl_failed"))


def failure_code(command: str, exit_code: int, output: str) -> tuple[Code, bool]:
    """Return the code for a failed call of wsl.exe, and whether the same call may help.

    Args:
        command: the command line, for the person to repeat.
        exit_code: of wsl.exe, as an unsigned number.
        output: what it printed, decoded.
    """
    error = find_error(output)
    meaning = meaning_of(error, exit_code)
    token = error.token if error else f"0x{exit_code:08x}"
    return make_code(meaning.code_id, command=command, token=token), meaning.retryable
