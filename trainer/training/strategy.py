"""How Lightning spreads a run over devices and machines."""

from __future__ import annotations

import os

import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from trainer.contract.params import TrainParams
from trainer.training.device import Device


class UnwrappedDDP(DDPStrategy):
    """Processes and their group as in DDP, without its gradient hooks.

    A window has several backward passes and is normalised by the tokens of all devices, so the module sums
    the few LoRA gradients itself, once a step.
    """

    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:  # type: ignore[override]
        return model


def world_size(params: TrainParams) -> int:
    return params.devices * params.num_nodes


def rank() -> int:
    """This process's number: of Lightning's or torchrun's environment, 0 alone."""
    node = int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0")))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return int(os.environ.get("RANK", str(node * int(os.environ.get("LOCAL_WORLD_SIZE", "1")) + local)))


def make_strategy(params: TrainParams, device: Device) -> Strategy:
    """One device needs no process group at all."""
    if world_size(params) == 1 and params.strategy == "auto":
        return SingleDeviceStrategy(device="cuda:0" if device.kind == "cuda" else "cpu")
    return UnwrappedDDP(process_group_backend="nccl" if device.kind == "cuda" else "gloo")
