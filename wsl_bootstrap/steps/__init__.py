"""The steps of set-up, in the order in which they are walked."""

from __future__ import annotations

from wsl_bootstrap.environment import Environment
from wsl_bootstrap.step import Check
from wsl_bootstrap.steps.disk import DiskCheck
from wsl_bootstrap.steps.gpu import GpuCheck
from wsl_bootstrap.steps.memory import MemoryCheck
from wsl_bootstrap.steps.python_env import PythonEnvStep
from wsl_bootstrap.steps.smoke_test import SmokeTestStep
from wsl_bootstrap.steps.torch_env import TorchEnvStep
from wsl_bootstrap.steps.windows_only import windows_only_checks


def setup_steps(environment: Environment) -> tuple[Check, ...]:
    """Return what stands between this computer and training; what only looks comes before what costs."""
    return (
        *windows_only_checks(),
        MemoryCheck(),
        DiskCheck(environment.folder),
        GpuCheck(),
        PythonEnvStep(environment),
        TorchEnvStep(environment),
        SmokeTestStep(environment),
    )
