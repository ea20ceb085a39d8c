"""From what was opened to what trains: the model with its adapter, its optimizer, the loop around them."""

from __future__ import annotations

import torch

from trainer import __version__
from trainer.adapters.adapted import Adapted
from trainer.adapters.attach import attach, attach_adapter, train_in_full
from trainer.adapters.files import Adapter, read_adapter
from trainer.adapters.leaves import sizes, split
from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import AppError, ParameterError, Problem
from trainer.contract.events import EventWriter
from trainer.contract.params import TrainParams
from trainer.contract.run_folder import RunFolder, RunRecord
from trainer.models.layouts import is_projection
from trainer.models.loading import load_model
from trainer.models.skeleton import RWKV
from trainer.training.activations import choose_policy, free_memory_bytes
from trainer.training.control import Control
from trainer.training.drift import DriftProbe
from trainer.training.loop import Progress, RunLoop
from trainer.training.module import TrainModule
from trainer.training.opening import Opened
from trainer.training.samples import Sampler
from trainer.training.zero import stage


def load_base(opened: Opened, events: EventWriter) -> RWKV:
    """The base with its adapter attached, in training mode."""
    params, device = opened.params, opened.device
    model = load_model(
        opened.base.path,
        dtype=device.dtype,
        # Where the weights will be in parts, no device has room for all of them.
        device="cpu" if stage(params) == 3 else device.kind,
        quant=None if params.quant == "none" else params.quant,
        on_progress=lambda done, total: (
            events.write("progress", what="loading_model", done=done, total=total, unit="tensors")
            if done == total or done % 100 == 0
            else None
        ),
    )
    if opened.general is not None:
        opened.drift = DriftProbe(model, opened.base, opened.general)
    torch.manual_seed(params.seed)
    if opened.adapter is None:
        attach(
            model, params.method, r=params.lora_r, alpha=params.scaled_alpha, dropout=params.lora_dropout,
            parts=params.lora_parts,
        )  # fmt: skip
    else:
        _go_on_with(model, opened.adapter, params, events)
    model.train()
    if params.grad_cp:
        tokens = params.micro_bsz * params.ctx_len
        model.recomputed = choose_policy(model, tokens, free_memory_bytes(device.kind))
    return model


def _go_on_with(model: RWKV, adapter: Adapter, params: TrainParams, events: EventWriter) -> None:
    """Train what the adapter holds and the chosen parts, by the adapter's method, rank and alpha.

    Raises:
        ParameterError: it holds whole projections, which are quantised.
    """
    if params.quant != "none" and any(is_projection(name) for name in adapter.tensors):
        raise ParameterError([Problem("param_conflict", {"with": "method=full"}, "quant")])
    method = adapter.method or params.method
    r = _rank(adapter) or params.lora_r
    alpha = params.scaled_alpha if adapter.alpha is None else adapter.alpha
    attach(model, method, r=r, alpha=alpha, dropout=params.lora_dropout, parts=params.lora_parts)
    attach_adapter(model, adapter, alpha=alpha)
    for name in adapter.tensors:
        # What the adapter holds goes on being trained, or the next adapter would lack it.
        if split(name) is None:
            train_in_full(model.get_parameter(name))
    if method != params.method:
        args = {"given": params.method, "recorded": method}
        events.write("warning", code="adapter_method_differs", args=args)
    elif method in ("lora", "dora") and alpha != params.scaled_alpha:
        args = {"given": params.scaled_alpha, "recorded": alpha}
        events.write("warning", code="adapter_alpha_differs", args=args)


def _rank(adapter: Adapter) -> int | None:
    """The rank that the adapter's projections were made with."""
    for name, tensor in adapter.tensors.items():
        if (parts := split(name)) is not None:
            r = sizes({parts[1]: tuple(tensor.shape)}) or {}
            if "r" in r:
                return r["r"] // 2 if adapter.method == "pissa" else r["r"]
    return None


def assemble(
    run: RunFolder, opened: Opened, record: RunRecord, model: RWKV, events: EventWriter, control: Control
) -> tuple[TrainModule, RunLoop]:
    params, progress = opened.params, Progress()
    module = TrainModule(model, params, opened.plan, opened.device, opened.plan.first_step)
    if opened.resume is not None:
        checkpoint, state = opened.resume
        attach_adapter(model, read_adapter(checkpoint.adapter))
        try:
            module.adamw.load_state_dict(state.optimizer)
            module.scaler.load_state_dict(state.scaler)
        except (ValueError, KeyError) as error:  # written by a version that trained other tensors
            raise AppError("checkpoint_unreadable", path=str(checkpoint.path), reason=str(error)) from error
        module.step = state.step
        progress = Progress(state.tokens, state.best, state.bad_evals, checkpoint.meta.loss)
    loop = RunLoop(run, params, opened.data, _adapter_meta(opened, record, model), events, control,
                   Sampler(params, opened.data, opened.spec.vocab_size), opened.drift, progress)  # fmt: skip
    return module, loop


def _adapter_meta(opened: Opened, record: RunRecord, model: RWKV) -> AdapterMeta:
    params = opened.params
    method = params.method if opened.adapter is None else opened.adapter.method or params.method
    adapted = next((module for module in model.modules() if isinstance(module, Adapted)), None)
    shapes = {} if adapted is None else {k: tuple(v.shape) for k, v in adapted.leaves().items()}
    return AdapterMeta(
        method=method, r=(sizes(shapes) or {}).get("r"), alpha=None if adapted is None else adapted.alpha,
        dropout=params.lora_dropout, quant=None if params.quant == "none" else params.quant,
        parts=params.lora_parts, generation=opened.spec.generation,
        n_layer=opened.spec.n_layer, n_embd=opened.spec.n_embd, base_name=record.base_name,
        base_bytes=record.base_bytes, base_sha256=record.base_sha256, run_id=record.run_id, step=0, epoch=0,
        tokens=0, trainer=__version__,
    )  # fmt: skip
