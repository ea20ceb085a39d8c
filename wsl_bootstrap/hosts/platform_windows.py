"""The calls into Windows: ctypes and the registry, in this module only.

It can be imported on any system; its functions work on Windows alone. Nothing here needs administrator
rights, starts PowerShell, or reads a text in the language of the system.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import wintypes
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import psutil

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.elevated import CANCELLED, Action
from wsl_bootstrap.hosts.base import HostError
from wsl_bootstrap.hosts.windows_facts import Distribution, Volume, WindowsSnapshot
from wsl_bootstrap.hosts.wsl_paths import drive_letter

LOG = logging.getLogger(__name__)

_LXSS = r"Software\Microsoft\Windows\CurrentVersion\Lxss"
_CURRENT_VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_CBS_PENDING = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending"
_POLICIES = (r"SOFTWARE\Policies\WSL", r"SOFTWARE\Policies\Microsoft\Windows\WSL")
_INTERNET = r"Software\Microsoft\Windows\CurrentVersion\Internet Settings"
_RUN_ONCE = r"Software\Microsoft\Windows\CurrentVersion\RunOnce"
_RUN_ONCE_NAME = "RwkvLoraRunner"
_SERVICES = ("HNS", "vmcompute", "vfpext", "LxssManager", "lxss", "WslService")

_SC_MANAGER_CONNECT = _SERVICE_QUERY_CONFIG = 1
_PF_VIRT_FIRMWARE_ENABLED = 21
_SYSTEM_TIME_OF_DAY, _SYSTEM_HYPERVISOR = 3, 91
_WTS_USER_NAME = 5
_DRIVE_MISSING, _DRIVE_REMOVABLE, _DRIVE_REMOTE = (0, 1), 2, 4
_ATTRIBUTE_COMPRESSED, _ATTRIBUTE_ENCRYPTED, _ATTRIBUTES_INVALID = 0x800, 0x4000, 0xFFFFFFFF
_SEE_MASK = 0x40 | 0x100 | 0x400  # NOCLOSEPROCESS | NOASYNC | FLAG_NO_UI
_WAIT_TIMEOUT = 0x102
_ES_CONTINUOUS, _ES_SYSTEM_REQUIRED = 0x80000000, 0x1


class OsVersion(ctypes.Structure):
    """RTL_OSVERSIONINFOEXW."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("build", ctypes.c_uint32),
        ("platform", ctypes.c_uint32),
        ("service_pack", ctypes.c_uint16 * 128),
        ("service_pack_major", ctypes.c_uint16),
        ("service_pack_minor", ctypes.c_uint16),
        ("suite", ctypes.c_uint16),
        ("product_type", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
    )


class TimeOfDay(ctypes.Structure):
    """SYSTEM_TIMEOFDAY_INFORMATION. Boot time less its bias stays as it is when the clock is set."""

    _fields_ = (
        ("boot_time", ctypes.c_int64),
        ("current_time", ctypes.c_int64),
        ("zone_bias", ctypes.c_int64),
        ("zone_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("boot_time_bias", ctypes.c_uint64),
        ("sleep_time_bias", ctypes.c_uint64),
    )


class HypervisorQuery(ctypes.Structure):
    """SYSTEM_HYPERVISOR_QUERY_INFORMATION."""

    _fields_ = (
        ("connected", ctypes.c_ubyte),
        ("debugging", ctypes.c_ubyte),
        ("present", ctypes.c_ubyte),
        ("spare", ctypes.c_ubyte * 5),
        ("enlightenments", ctypes.c_uint64),
    )


class FixedFileInfo(ctypes.Structure):
    """VS_FIXEDFILEINFO, as far as the file's version."""

    _fields_ = (
        ("signature", ctypes.c_uint32),
        ("structure_version", ctypes.c_uint32),
        ("version_high", ctypes.c_uint32),
        ("version_low", ctypes.c_uint32),
    )


class ShellExecuteInfo(ctypes.Structure):
    """SHELLEXECUTEINFOW."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
        ("window", wintypes.HWND),
        ("verb", wintypes.LPCWSTR),
        ("file", wintypes.LPCWSTR),
        ("parameters", wintypes.LPCWSTR),
        ("directory", wintypes.LPCWSTR),
        ("show", ctypes.c_int),
        ("instance", wintypes.HINSTANCE),
        ("id_list", ctypes.c_void_p),
        ("class_name", wintypes.LPCWSTR),
        ("class_key", wintypes.HKEY),
        ("hot_key", ctypes.c_uint32),
        ("icon", wintypes.HANDLE),
        ("process", wintypes.HANDLE),
    )


class RealWindows:
    """The system that we run on. See `windows_facts.Windows`."""

    def snapshot(self) -> WindowsSnapshot:
        """Look at registry, services, memory and processor: about 20 ms."""
        assert sys.platform == "win32"
        from winreg import HKEY_CLASSES_ROOT, HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE

        version, memory = _os_version(), psutil.virtual_memory()
        windows = _values(HKEY_LOCAL_MACHINE, _CURRENT_VERSION)
        lxss = _values(HKEY_CURRENT_USER, _LXSS)
        system_root = os.environ.get("SYSTEMROOT", "C:\\Windows")
        profile = os.environ.get("USERPROFILE", str(Path.home()))
        hypervisor = _query(_SYSTEM_HYPERVISOR, HypervisorQuery())
        pending = _values(HKEY_CURRENT_USER, _LXSS + r"\InstallStatus").get("", "")
        return WindowsSnapshot(
            build=version.build,
            revision=int(windows.get("UBR", 0)),
            server=version.product_type != 1,
            edition=str(windows.get("EditionID", "")),
            machine=_machine(),
            boot_id=_boot_id(),
            cpu_count=psutil.cpu_count() or 1,
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            services=frozenset(name.lower() for name in _SERVICES if _service_exists(name)),
            hypervisor_present=bool(hypervisor.present) if hypervisor else None,
            firmware_virtualization=bool(
                ctypes.windll.kernel32.IsProcessorFeaturePresent(_PF_VIRT_FIRMWARE_ENABLED)
            ),
            wsl_exe=Path(system_root, "System32", "wsl.exe").is_file(),
            wsl_package=_wsl_package(),
            distributions=tuple(_distributions()),
            default_distribution=lxss.get("DefaultDistribution"),
            components_pending=tuple(filter(None, str(pending).split(","))),
            restart_pending=_key_exists(HKEY_LOCAL_MACHINE, _CBS_PENDING),
            wsl_allowed=all(_values(HKEY_LOCAL_MACHINE, key).get("AllowWSL", 1) != 0 for key in _POLICIES),
            store=_key_exists(HKEY_CLASSES_ROOT, "ms-windows-store"),
            account=_account(),
            elevated=bool(ctypes.windll.shell32.IsUserAnAdmin()),
            system_root=system_root,
            profile=profile,
            local_app_data=os.environ.get("LOCALAPPDATA", str(Path(profile, "AppData", "Local"))),
            proxy=_proxy(),
        )

    def volume(self, folder: PureWindowsPath) -> Volume:
        """Ask for the drive's kind and room, and for the attributes of the nearest folder that exists."""
        assert sys.platform == "win32"
        letter = drive_letter(folder)
        if not letter:
            return Volume(free_bytes=0, kind="network")
        kernel = ctypes.windll.kernel32
        number = kernel.GetDriveTypeW(f"{letter}:\\")
        if number in _DRIVE_MISSING:
            return Volume(free_bytes=0, kind="missing")
        kind: Literal["fixed", "removable", "network", "subst"] = "fixed"
        target = ctypes.create_unicode_buffer(1024)
        if number == _DRIVE_REMOTE:
            kind = "network"
        elif kernel.QueryDosDeviceW(f"{letter}:", target, len(target)) and target.value.startswith("\\??\\"):
            kind = "subst"
        elif number == _DRIVE_REMOVABLE:
            kind = "removable"
        nearest = next((path for path in (folder, *folder.parents) if Path(path).exists()), None)
        if nearest is None:
            return Volume(free_bytes=0, kind="missing")
        attributes = kernel.GetFileAttributesW(str(nearest)) & 0xFFFFFFFF
        if attributes == _ATTRIBUTES_INVALID:
            attributes = 0
        return Volume(
            free_bytes=psutil.disk_usage(str(nearest)).free,
            kind=kind,
            compressed=bool(attributes & _ATTRIBUTE_COMPRESSED),
            encrypted=bool(attributes & _ATTRIBUTE_ENCRYPTED),
        )

    def local_path(self, path: PureWindowsPath) -> Path:
        """Return the same path."""
        return Path(path)

    def windows_path(self, path: Path) -> PureWindowsPath:
        """Return the same path, made absolute."""
        return PureWindowsPath(path.absolute())

    def elevate(self, actions: Sequence[Action], timeout_s: float) -> int:
        """Start the helper by the verb `runas`, which asks the person, and wait for its end."""
        parameters = subprocess.list2cmdline(
            ["-I", "-m", "wsl_bootstrap.elevated", *(action.value for action in actions)]
        )
        return shell_execute("runas", sys.executable, parameters, timeout_s)

    def resume_after_restart(self, argv: Sequence[str]) -> None:
        """Write the current user's RunOnce. Longer than 260 characters is not read by old versions."""
        assert sys.platform == "win32"
        import winreg

        command = subprocess.list2cmdline(argv)
        if len(command) > 260:
            LOG.warning("RunOnce: %d characters may be too many", len(command))
        with winreg.CreateKey(winreg.HKEY_CURRENT_USER, _RUN_ONCE) as key:
            winreg.SetValueEx(key, _RUN_ONCE_NAME, 0, winreg.REG_SZ, command)

    def restart(self) -> None:
        """Let Windows' own tool restart it."""
        tool = Path(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32", "shutdown.exe")
        subprocess.run([str(tool), "/r", "/t", "0"], stdin=subprocess.DEVNULL, timeout=30, check=True)

    def keep_awake(self, on: bool) -> None:
        """Set the state of this thread, which lasts as long as the thread."""
        assert sys.platform == "win32"
        ctypes.windll.kernel32.SetThreadExecutionState(_ES_CONTINUOUS | (_ES_SYSTEM_REQUIRED if on else 0))


def shell_execute(verb: str, program: str, parameters: str, timeout_s: float) -> int:
    """Start a program by a verb of the shell, wait for it by its handle and return its exit code.

    Returns:
        The exit code; 1223 when the person refused; another error of Windows when it did not start.

    Raises:
        HostError: it did not end in time.
    """
    assert sys.platform == "win32"
    shell = ctypes.WinDLL("shell32", use_last_error=True)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    shell.ShellExecuteExW.argtypes = (ctypes.POINTER(ShellExecuteInfo),)
    kernel.WaitForSingleObject.argtypes = (wintypes.HANDLE, wintypes.DWORD)
    kernel.GetExitCodeProcess.argtypes = (wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD))
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    info = ShellExecuteInfo(
        size=ctypes.sizeof(ShellExecuteInfo), mask=_SEE_MASK, verb=verb, file=program, parameters=parameters
    )
    if not shell.ShellExecuteExW(ctypes.byref(info)):
        error = ctypes.get_last_error()
        LOG.warning("%s %s: not started, error %d", program, parameters, error)
        return error or CANCELLED
    try:
        if kernel.WaitForSingleObject(info.process, int(timeout_s * 1000)) == _WAIT_TIMEOUT:
            raise HostError(
                make_code("command_timeout", command=f"{program} {parameters}", timeout_s=timeout_s),
                retryable=True,
            )
        code = wintypes.DWORD()
        kernel.GetExitCodeProcess(info.process, ctypes.byref(code))
        return code.value
    finally:
        kernel.CloseHandle(info.process)


def _os_version() -> OsVersion:
    """Ask the kernel, which unlike GetVersionEx does not adapt its answer to the program that asks."""
    assert sys.platform == "win32"
    version = OsVersion(size=ctypes.sizeof(OsVersion))
    ctypes.windll.ntdll.RtlGetVersion(ctypes.byref(version))
    return version


def _query(number: int, answer: Any) -> Any:
    """Fill a structure by NtQuerySystemInformation; None when the system does not know the question."""
    assert sys.platform == "win32"
    status = ctypes.windll.ntdll.NtQuerySystemInformation(
        number, ctypes.byref(answer), ctypes.sizeof(answer), None
    )
    return answer if status == 0 else None


def _boot_id() -> str:
    times = _query(_SYSTEM_TIME_OF_DAY, TimeOfDay())
    if times is None:
        return f"{psutil.boot_time():.0f}"
    return str((times.boot_time - times.boot_time_bias) // 10**7)


def _machine() -> Literal["AMD64", "ARM64", "x86"]:
    names = {os.environ.get("PROCESSOR_ARCHITEW6432"), os.environ.get("PROCESSOR_ARCHITECTURE")}
    return "ARM64" if "ARM64" in names else "AMD64" if "AMD64" in names else "x86"


def _service_exists(name: str) -> bool:
    assert sys.platform == "win32"
    advapi = ctypes.WinDLL("advapi32")
    advapi.OpenSCManagerW.restype = advapi.OpenServiceW.restype = wintypes.HANDLE
    advapi.OpenServiceW.argtypes = (wintypes.HANDLE, wintypes.LPCWSTR, wintypes.DWORD)
    advapi.CloseServiceHandle.argtypes = (wintypes.HANDLE,)
    manager = advapi.OpenSCManagerW(None, None, _SC_MANAGER_CONNECT)
    if not manager:
        return False
    service = advapi.OpenServiceW(manager, name, _SERVICE_QUERY_CONFIG)
    if service:
        advapi.CloseServiceHandle(service)
    advapi.CloseServiceHandle(manager)
    return bool(service)


def _wsl_package() -> str | None:
    """Return the version of the wsl.exe that the Store or the MSI installed."""
    assert sys.platform == "win32"
    from winreg import HKEY_LOCAL_MACHINE

    folder = _values(HKEY_LOCAL_MACHINE, _LXSS + r"\MSI").get("InstallLocation")
    return _file_version(Path(str(folder), "wsl.exe")) if folder else None


def _file_version(path: Path) -> str | None:
    assert sys.platform == "win32"
    library = ctypes.WinDLL("version")
    size = library.GetFileVersionInfoSizeW(str(path), None)
    data = ctypes.create_string_buffer(size)
    if not size or not library.GetFileVersionInfoW(str(path), 0, size, data):
        return None
    value, length = ctypes.c_void_p(), wintypes.UINT()
    if not library.VerQueryValueW(data, "\\", ctypes.byref(value), ctypes.byref(length)) or not value.value:
        return None
    info = FixedFileInfo.from_address(value.value)
    parts = (
        info.version_high >> 16,
        info.version_high & 0xFFFF,
        info.version_low >> 16,
        info.version_low & 0xFFFF,
    )
    return ".".join(map(str, parts))


def _distributions() -> Iterator[Distribution]:
    assert sys.platform == "win32"
    import winreg

    for guid in _subkeys(winreg.HKEY_CURRENT_USER, _LXSS):
        values = _values(winreg.HKEY_CURRENT_USER, rf"{_LXSS}\{guid}")
        if "DistributionName" in values:
            yield Distribution(
                guid=guid,
                name=str(values["DistributionName"]),
                base_path=str(values.get("BasePath", "")).removeprefix("\\\\?\\"),
                state=int(values.get("State", 1)),
                flags=int(values.get("Flags", 0)),
                vhd_file=str(values.get("VhdFileName", "ext4.vhdx")),
            )


def _account() -> Literal["own", "other", "system"]:
    """Tell whether we run as the person whose session this is."""
    assert sys.platform == "win32"
    session = wintypes.DWORD()
    if ctypes.windll.kernel32.ProcessIdToSessionId(os.getpid(), ctypes.byref(session)) and session.value == 0:
        return "system"
    terminal = ctypes.WinDLL("wtsapi32")
    terminal.WTSFreeMemory.argtypes = (ctypes.c_void_p,)
    name, length = wintypes.LPWSTR(), wintypes.DWORD()
    asked = terminal.WTSQuerySessionInformationW(
        None, session, _WTS_USER_NAME, ctypes.byref(name), ctypes.byref(length)
    )
    if not asked or not name.value:
        return "own"
    of_session = name.value
    terminal.WTSFreeMemory(name)
    own, size = ctypes.create_unicode_buffer(257), wintypes.DWORD(257)
    if not ctypes.WinDLL("advapi32").GetUserNameW(own, ctypes.byref(size)):
        return "own"
    return "own" if own.value.lower() == of_session.lower() else "other"


def _proxy() -> str | None:
    assert sys.platform == "win32"
    from winreg import HKEY_CURRENT_USER

    values = _values(HKEY_CURRENT_USER, _INTERNET)
    return str(values.get("ProxyServer") or "") or None if values.get("ProxyEnable") else None


@contextmanager
def _key(root: int, path: str) -> Iterator[Any]:
    """Open a key for reading, in the registry of 64-bit programs; None when there is none."""
    assert sys.platform == "win32"
    import winreg

    try:
        key = winreg.OpenKey(root, path, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY)
    except OSError:
        yield None
        return
    with key:
        yield key


def _key_exists(root: int, path: str) -> bool:
    with _key(root, path) as key:
        return key is not None


def _values(root: int, path: str) -> dict[str, Any]:
    assert sys.platform == "win32"
    import winreg

    with _key(root, path) as key:
        if key is None:
            return {}
        count = winreg.QueryInfoKey(key)[1]
        return {name: value for name, value, _ in (winreg.EnumValue(key, place) for place in range(count))}


def _subkeys(root: int, path: str) -> list[str]:
    assert sys.platform == "win32"
    import winreg

    with _key(root, path) as key:
        return (
            []
            if key is None
            else [winreg.EnumKey(key, place) for place in range(winreg.QueryInfoKey(key)[0])]
        )
