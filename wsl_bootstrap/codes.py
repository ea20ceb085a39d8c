"""Everything that set-up can have to say, as codes. The sentences are in texts/, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Severity(str, Enum):
    """How much a code matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Arg = str | int | float


@dataclass(frozen=True)
class Code:
    """One thing to say: which sentence, how serious, and the facts that fill it."""

    id: str
    severity: Severity
    args: Mapping[str, Arg] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class CodeSpec:
    """What a code always carries: its severity, the names of its facts, and the buttons that help."""

    severity: Severity
    args: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()


_INFO, _WARNING, _ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR
_RETRY, _LOG, _RECHECK = "retry", "show_log", "recheck"
_WSL = ("command", "token")

REGISTRY: dict[str, CodeSpec] = {
    # Windows and WSL
    "not_needed_on_linux": CodeSpec(_INFO),
    "restart_needed": CodeSpec(_WARNING, actions=("restart",)),
    "windows_too_old": CodeSpec(_ERROR, ("have", "need")),
    "windows_32bit": CodeSpec(_ERROR, ("machine",)),
    "wsl_policy_off": CodeSpec(_ERROR, actions=(_RECHECK,)),
    "account_other": CodeSpec(_ERROR, actions=(_RECHECK,)),
    "account_is_system": CodeSpec(_ERROR, actions=(_RECHECK,)),
    "app_elevated": CodeSpec(_WARNING),
    "firmware_virtualization_off": CodeSpec(_ERROR, actions=(_RECHECK,)),
    "hypervisor_not_started": CodeSpec(_ERROR, ("command",), (_RECHECK,)),
    "wsl_feature_missing": CodeSpec(_INFO, ("features",)),
    "feature_unsupported": CodeSpec(_ERROR, ("command",), (_RECHECK,)),
    "feature_failed": CodeSpec(_ERROR, ("command", "exit_code"), (_RETRY, _LOG)),
    "wsl_exe_missing": CodeSpec(_ERROR, ("path",), (_RECHECK,)),
    "wsl_package_missing": CodeSpec(_INFO),
    "wsl_package_old": CodeSpec(_INFO, ("have", "need")),
    "wsl_inbox_old": CodeSpec(_INFO),
    "wsl_update_failed": CodeSpec(_ERROR, ("command", "exit_code"), (_RETRY, _LOG)),
    # the distribution, and its road to the files and the network outside
    "distro_missing": CodeSpec(_INFO, ("name",)),
    "distro_half_made": CodeSpec(_INFO, ("name",)),
    "distro_broken": CodeSpec(_ERROR, ("name", "token", "command"), (_RETRY, "remove_distribution")),
    "distro_is_wsl1": CodeSpec(_ERROR, ("name", "command"), ("choose_distribution", _RECHECK)),
    "distro_not_there": CodeSpec(_ERROR, ("name",), ("choose_distribution", _RECHECK)),
    "distro_other": CodeSpec(_WARNING, ("name",)),
    "folder_compressed": CodeSpec(_ERROR, ("path",), ("choose_folder", _RECHECK)),
    "folder_encrypted": CodeSpec(_ERROR, ("path",), ("choose_folder", _RECHECK)),
    "folder_not_local": CodeSpec(_ERROR, ("path",), ("choose_folder", _RECHECK)),
    "set_up_elsewhere": CodeSpec(_ERROR, actions=(_RECHECK,)),
    "rootfs_missing": CodeSpec(_ERROR, ("path",), ("choose_file", _RECHECK)),
    "rootfs_not_archive": CodeSpec(_ERROR, ("path",), ("choose_file", _RECHECK)),
    "download_mismatch": CodeSpec(_ERROR, ("file",), (_RETRY, "choose_mirror")),
    "vm_memory_small": CodeSpec(_WARNING, ("have_gb", "need_gb", "path")),
    "wsl_restart_stops": CodeSpec(_WARNING, ("names",)),
    "wslconfig_odd": CodeSpec(_ERROR, ("path", "value"), (_RECHECK,)),
    "gpu_not_in_wsl": CodeSpec(_WARNING, ("driver", "detail"), (_RECHECK,)),
    "network_not_asked": CodeSpec(_INFO),
    "network_untested": CodeSpec(_INFO),
    "network_unreachable": CodeSpec(_ERROR, ("mirror", "detail"), (_RECHECK, "choose_mirror")),
    "mirror_unreachable": CodeSpec(_ERROR, ("mirror", "reachable"), ("choose_mirror", _RECHECK)),
    "proxy_only_on_windows": CodeSpec(_WARNING, ("proxy",), ("choose_mirror",)),
    "path_not_absolute": CodeSpec(_ERROR, ("path",)),
    "path_on_network": CodeSpec(_ERROR, ("path",), ("choose_file",)),
    "path_on_subst": CodeSpec(_ERROR, ("path",), ("choose_file",)),
    # what wsl.exe itself reports
    "virtualization_off": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "vm_no_answer": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "vm_feature_blocked": CodeSpec(_ERROR, _WSL, (_RECHECK, _LOG)),
    "wsl_kernel_missing": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "wsl_feature_off": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "vm_platform_off": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "wsl_package_broken": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "wsl_path_missing": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "distro_disk_compressed": CodeSpec(_ERROR, _WSL, ("choose_folder", _RETRY)),
    "wsl_bad_state": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "wsl_legacy_console": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "distro_gone": CodeSpec(_ERROR, _WSL, (_RECHECK, "choose_distribution")),
    "distro_no_default": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "distro_user_missing": CodeSpec(_ERROR, _WSL, ("choose_distribution", _RETRY)),
    "distro_import_failed": CodeSpec(_ERROR, _WSL, (_RETRY, "choose_file", _LOG)),
    "rootfs_not_linux": CodeSpec(_ERROR, _WSL, ("choose_file",)),
    "wsl_component_failed": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "wsl_windows_too_old": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "distro_disk_damaged": CodeSpec(_ERROR, _WSL, (_LOG, "remove_distribution")),
    "distro_disk_missing": CodeSpec(_ERROR, _WSL, ("remove_distribution", _RECHECK)),
    "vm_crashed": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    "account_system": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "wsl_mixed_rights": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "distro_name_taken": CodeSpec(_ERROR, _WSL, (_RECHECK, "remove_distribution")),
    "wsl_download_unreachable": CodeSpec(_ERROR, _WSL, (_RETRY, "choose_mirror", "choose_file")),
    "windows_disk_full": CodeSpec(_ERROR, _WSL, (_RETRY, "choose_folder")),
    "download_damaged": CodeSpec(_ERROR, _WSL, (_RETRY, "choose_mirror")),
    "wsl_forbidden": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "wsl_not_installed": CodeSpec(_ERROR, _WSL, (_RECHECK,)),
    "wsl_failed": CodeSpec(_ERROR, _WSL, (_RETRY, _LOG)),
    # the computer
    "memory_too_small": CodeSpec(_ERROR, ("have_gb", "need_gb"), (_RECHECK,)),
    "memory_low": CodeSpec(_WARNING, ("have_gb", "need_gb")),
    "disk_full": CodeSpec(_ERROR, ("path", "have_gb", "need_gb"), (_RECHECK,)),
    "disk_low": CodeSpec(_WARNING, ("path", "have_gb", "need_gb")),
    "gpu_none": CodeSpec(_INFO),
    "gpu_driver_silent": CodeSpec(_WARNING, ("detail",), (_RECHECK,)),
    "gpu_driver_old": CodeSpec(_WARNING, ("have", "need"), (_RECHECK,)),
    # the Python environment
    "python_unsupported": CodeSpec(_ERROR, ("path", "found", "need"), (_RECHECK,)),
    "python_broken": CodeSpec(_ERROR, ("path", "detail"), (_RECHECK,)),
    "venv_module_missing": CodeSpec(_ERROR, ("path", "command"), (_RECHECK,)),
    "venv_missing": CodeSpec(_INFO, ("path",)),
    "venv_broken": CodeSpec(_WARNING, ("path", "detail")),
    "packages_missing": CodeSpec(_INFO, ("packages",)),
    "trainer_differs": CodeSpec(_INFO, ("have",)),
    "torch_missing": CodeSpec(_INFO),
    "torch_broken": CodeSpec(_WARNING, ("detail",)),
    "torch_misfit": CodeSpec(_WARNING, ("version", "gpu")),
    "torch_gpu_unseen": CodeSpec(_WARNING, ("version", "gpu"), (_RECHECK,)),
    "copy_failed": CodeSpec(_ERROR, ("file", "detail"), (_RETRY, _LOG)),
    # the proof
    "smoke_not_run": CodeSpec(_INFO),
    "smoke_failed": CodeSpec(_ERROR, ("failed", "detail"), (_RETRY, _LOG)),
    "smoke_no_answer": CodeSpec(_ERROR, ("exit_code", "detail"), (_RETRY, _LOG)),
    # addresses of the person's own
    "address_odd": CodeSpec(_ERROR, ("address",), ("choose_mirror",)),
    "address_silent": CodeSpec(_ERROR, ("address", "detail"), ("choose_mirror", _RETRY)),
    # anything that was run
    "download_failed": CodeSpec(_ERROR, ("detail",), (_RETRY, _LOG)),
    "command_failed": CodeSpec(_ERROR, ("command", "exit_code", "detail"), (_RETRY, _LOG)),
    "command_timeout": CodeSpec(_ERROR, ("command", "timeout_s"), (_RETRY, _LOG)),
    "command_not_found": CodeSpec(_ERROR, ("command",), (_RECHECK,)),
    "elevation_refused": CodeSpec(_ERROR, ("command",), (_RETRY,)),
    "no_effect": CodeSpec(_ERROR, ("step",), (_RETRY, _LOG)),
    "internal_error": CodeSpec(_ERROR, ("detail",), (_RETRY, _LOG)),
}


def make_code(code_id: str, **args: Arg) -> Code:
    """Return the registered code with its facts filled in.

    Raises:
        ValueError: no such code, or not exactly the facts that its sentences use.
    """
    spec = REGISTRY.get(code_id)
    if spec is None:
        raise ValueError(f"no set-up code {code_id!r}")
    if set(args) != set(spec.args):
        raise ValueError(f"{code_id} takes {sorted(spec.args)}, not {sorted(args)}")
    return Code(code_id, spec.severity, args)
