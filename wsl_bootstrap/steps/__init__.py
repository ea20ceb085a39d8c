"""The steps of set-up, in the order in which they are walked."""

from __future__ import annotations

from wsl_bootstrap.environment import Environment, SetupOptions
from wsl_bootstrap.step import Check
from wsl_bootstrap.steps.disk import DiskCheck
from wsl_bootstrap.steps.distro import DistroStep
from wsl_bootstrap.steps.gpu import GpuCheck
from wsl_bootstrap.steps.memory import MemoryStep
from wsl_bootstrap.steps.network import NetworkCheck
from wsl_bootstrap.steps.python_env import PythonEnvStep
from wsl_bootstrap.steps.smoke_test import SmokeTestStep
from wsl_bootstrap.steps.torch_env import TorchEnvStep
from wsl_bootstrap.steps.virtualization import VirtualizationCheck
from wsl_bootstrap.steps.windows_version import WindowsVersionCheck
from wsl_bootstrap.steps.wsl_feature import WslFeatureStep
from wsl_bootstrap.steps.wsl_version import WslVersionStep


def setup_steps(
    environment: Environment, options: SetupOptions | None = None, resume: tuple[str, ...] = ()
) -> tuple[Check, ...]:
    """Return what stands between this computer and training; what only looks comes before what costs.

    Args:
        environment: what is made.
        options: the choices that a look depends on already, which is where downloads come from.
        resume: on Windows: the command that opens the program again after a restart.
    """
    return (
        WindowsVersionCheck(),
        VirtualizationCheck(),
        WslFeatureStep(resume),
        WslVersionStep(),
        DistroStep(),
        MemoryStep(),
        DiskCheck(environment.folder),
        GpuCheck(),
        NetworkCheck(environment, options or SetupOptions()),
        PythonEnvStep(environment),
        TorchEnvStep(environment),
        SmokeTestStep(environment),
    )
