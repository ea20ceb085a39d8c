"""How Lightning spreads a run over devices and machines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from trainer.contract.params import TrainParams
from trainer.training.device import Device
from trainer.training.module import TrainModule
from trainer.training.processes import find_interface, started_outside, world_size
from trainer.training.zero import ZeroUpdate, divide, stage

# Longer than any process makes another wait: for a save, an evaluation, a conversion.
_SILENCE = timedelta(minutes=30)


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine; `trainer.training.processes` watches them.

    Lightning's own watch kills this process where another has failed, and nothing would say why.
    """

    def launch(self, function: Any, *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        return function(*args, **kwargs)


class Replicas(DDPStrategy):
    """Processes and their group as in DDP, without its gradient hooks.

    A window has several backward passes and is normalised by the tokens of all devices, so the module sums
    the few LoRA gradients itself, once a step.
    """

    def configure_ddp(self) -> None:
        pass

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


class Zero(Replicas):
    """The same processes, with DeepSpeed's ZeRO between them."""

    def __init__(self, params: TrainParams, **options: Any) -> None:
        super().__init__(**options)
        self._params = params

    def model_to_device(self) -> None:
        if stage(self._params) < 3:
            super().model_to_device()
            return
        assert isinstance(self.lightning_module, TrainModule)
        divide(self.lightning_module.model, self._params, self.root_device)

    def setup(self, trainer: pl.Trainer) -> None:
        super().setup(trainer)
        module = self.lightning_module
        assert isinstance(module, TrainModule)
        module.update = ZeroUpdate(module.model, self._params, module.adamw, self.root_device.type)


def make_strategy(params: TrainParams, device: Device) -> Strategy:
    """One device needs no process group, unless ZeRO is asked for."""
    if world_size(params) == 1 and params.strategy == "auto":
        return SingleDeviceStrategy(device=torch.device(device.kind, 0) if device.kind == "cuda" else "cpu")
    if params.num_nodes > 1:
        find_interface()
    options: dict[str, Any] = {
        "process_group_backend": "nccl" if device.kind == "cuda" else "gloo",
        # What both launchers set; Lightning alone takes only the one for a launcher's.
        "cluster_environment": TorchElasticEnvironment() if started_outside() else None,
        "timeout": _SILENCE,
    }
    return Zero(params, **options) if stage(params) else Replicas(**options)
