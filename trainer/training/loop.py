"""What happens around the optimizer steps: events, evaluations, samples, saves, commands, the end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl

from trainer.adapters.attach import adapter_parts, adapter_tensors
from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import AppError
from trainer.contract.events import EventWriter
from trainer.contract.params import TrainParams
from trainer.contract.run_folder import RunFolder
from trainer.training.batches import RunData, Window
from trainer.training.checkpoints import ResumeState, save_checkpoint
from trainer.training.control import Control, obey_signals
from trainer.training.device import memory_bytes, peak_bytes
from trainer.training.drift import DriftProbe
from trainer.training.evaluation import evaluate
from trainer.training.module import StepResult, TrainModule
from trainer.training.monitor import Speed
from trainer.training.samples import Prompt, Sampler

PAUSE_POLL_S = 0.1


@dataclass(slots=True)
class Progress:
    """What a run has reached; part of every checkpoint."""

    tokens: int = 0
    best: float | None = None
    bad_evals: int = 0
    last_loss: float | None = None
    last_val: float | None = None
    stopped: bool = False
    reason: str | None = None


class RunLoop(pl.Callback):
    """Attached to Lightning's loop; everything here happens on step edges, between updates."""

    def __init__(
        self,
        run: RunFolder,
        params: TrainParams,
        data: RunData,
        meta: AdapterMeta,
        events: EventWriter,
        control: Control,
        sampler: Sampler,
        drift: DriftProbe | None,
        progress: Progress,
    ) -> None:
        self.run, self.params, self.data, self.meta = run, params, data, meta
        self.events, self.control, self.sampler, self.drift = events, control, sampler, drift
        self.progress = progress
        self.speed = Speed()
        self._evaluated_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has put its own handlers in by now; its SIGTERM ends the process with status 0, unsaved.
        obey_signals(self.control)
        self.events.write("phase", name="training")
        module: TrainModule = pl_module  # type: ignore[assignment]
        if module.step == module.plan.first_step:
            self._look_before(module)

    def _look_before(self, module: TrainModule) -> None:
        """What the model is like before the first update: what is measured later is compared with it."""
        self.evaluate(module, before=True)
        if self.sampler.prompts:
            self.sample(module, self.sampler.prompts)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Window, batch_idx: int
    ) -> None:
        self.speed.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        module: TrainModule = pl_module
        assert module.result is not None
        self._write_step(module, module.result)
        self._check_finite(module, module.result)
        self._scheduled(module)
        for command in self._commands(trainer):
            self._obey(module, command)
        if self.progress.stopped:
            trainer.should_stop = True

    def _write_step(self, module: TrainModule, result: StepResult) -> None:
        step_s = self.speed.finish(result.tokens)
        self.progress.tokens += result.tokens
        total = module.plan.total_steps
        self.events.write(
            "step", step=module.step, epoch=module.plan.epoch(module.step - 1), total=total, loss=result.loss,
            lr=result.lr, grad_norm=result.grad_norm, tok_s=self.speed.tok_s, step_s=step_s,
            eta_s=self.speed.eta_s(total - module.step), tokens=self.progress.tokens,
            mem_bytes=memory_bytes(module.compute.kind),
        )  # fmt: skip
        if self.speed.just_measured:
            self.events.write(
                "estimate", step=module.step, step_s=self.speed.step_s, measured=True,
                left_s=self.speed.eta_s(total - module.step), peak_bytes=peak_bytes(module.compute.kind),
            )  # fmt: skip

    def _check_finite(self, module: TrainModule, result: StepResult) -> None:
        loss_ok = math.isfinite(result.loss)
        if not loss_ok or (not math.isfinite(result.grad_norm) and not module.compute.needs_scaler):
            saved = self.run.checkpoints()
            raise AppError("nonfinite_loss", step=module.step, saved_step=saved[-1].meta.step if saved else 0)
        self.progress.last_loss = result.loss

    def _scheduled(self, module: TrainModule) -> None:
        """Evaluation, saving and samples that are due behind this step, in this order."""
        params, step, plan = self.params, module.step, module.plan
        last = step == plan.total_steps
        epochs_done = plan.epoch(step - 1) + 1 - plan.epoch_begin
        save_due = last or (plan.ends_epoch(step) and epochs_done % params.epoch_save == 0)
        eval_due = last or (step % params.eval_every == 0 if params.eval_every else save_due)
        sample_due = last or (step % params.sample_every == 0 if params.sample_every else save_due)
        if eval_due:
            self.evaluate(module)
        if save_due:
            self.save(module, "final" if last else "periodic")
        if sample_due and self.sampler.prompts:
            self.sample(module, self.sampler.prompts)

    def evaluate(self, module: TrainModule, *, before: bool = False) -> None:
        """Validation loss and drift from the base now.

        Args:
            before: nothing is trained yet, so there is no best to save.
        """
        if self._evaluated_at == module.step or not (len(self.data.validation) or self.drift):
            return
        self._evaluated_at = module.step
        self.events.write("phase", name="evaluating")
        if self.drift is not None:
            self.events.write("drift", step=module.step, **asdict(self.drift.measure(module.model)))
        if len(self.data.validation):
            self._validate(module, before)
        self.events.write("phase", name="training")

    def _validate(self, module: TrainModule, before: bool) -> None:
        """Validation loss; a new best is saved, and patience may end the run."""
        got = evaluate(
            module.model,
            self.data.reader,
            self.data.validation.tolist(),
            assistant_only=self.data.assistant_only,
        )
        if before:
            self.events.write("eval", step=module.step, loss=got.loss, ppl=got.ppl, best=False, before=True)
            return
        progress = self.progress
        progress.last_val = got.loss
        best = math.isfinite(got.loss) and (progress.best is None or got.loss < progress.best)
        progress.bad_evals = 0 if best else progress.bad_evals + 1
        if best:
            progress.best = got.loss
        self.events.write("eval", step=module.step, loss=got.loss, ppl=got.ppl, best=best)
        if best:
            self.save(module, "best")
        if self.params.patience and progress.bad_evals >= self.params.patience:
            progress.stopped, progress.reason = True, "patience"
            self.save(module, "final")

    def sample(self, module: TrainModule, prompts: Sequence[Prompt]) -> None:
        self.events.write("phase", name="sampling")
        for prompt in prompts:
            answer = self.sampler.answer(module.model, prompt)
            told = {} if prompt.reference is None else {"reference": prompt.reference}
            self.events.write("sample", step=module.step, prompt=prompt.text, text=answer, **told)
        self.events.write("phase", name="training")

    def save(self, module: TrainModule, kind: str) -> None:
        """Write a checkpoint of this very step; of several processes, the first one does.

        Raises:
            AppError: `disk_full` or `not_writable`.
        """
        if not module.trainer.is_global_zero:
            # What is spread over the devices is put together by all of them.
            for _ in adapter_parts(module.model, module.update.whole):
                pass
            module.update.optimizer_state(kept=False)
            return
        self.events.write("phase", name="saving")
        progress = self.progress
        meta = self.meta.model_copy(
            update={
                "step": module.step, "epoch": module.plan.epoch(max(0, module.step - 1)),
                "tokens": progress.tokens, "loss": progress.last_loss,
            }
        )  # fmt: skip
        tensors = adapter_tensors(module.model, module.update.whole)
        state = ResumeState(
            step=module.step, tokens=progress.tokens, best=progress.best, bad_evals=progress.bad_evals,
            optimizer=module.update.optimizer_state(), scaler=module.scaler.state_dict(),
        )  # fmt: skip
        val_loss = progress.last_val if self._evaluated_at == module.step else None
        checkpoint = save_checkpoint(
            self.run, tensors=tensors, adapter_meta=meta, state=state, kind=kind,
            val_loss=val_loss, keep_last=self.params.keep_last,
        )  # fmt: skip
        self.events.write(
            "checkpoint", step=module.step, path=f"ckpt/{checkpoint.path.name}", bytes=checkpoint.meta.bytes,
            kind=kind, loss=progress.last_loss, val_loss=val_loss,
        )  # fmt: skip
        self.events.write("phase", name="training")

    def _obey(self, module: TrainModule, command: dict[str, Any]) -> None:
        name = command["cmd"]
        if name == "stop":
            if command.get("save", True):
                self.save(module, "manual")
            self.progress.stopped, self.progress.reason = True, "asked"
        elif name == "save":
            self.save(module, "manual")
        elif name == "eval":
            self.evaluate(module)
        elif name == "sample":
            prompts = (Prompt(str(command["prompt"])),) if command.get("prompt") else self.sampler.prompts
            self.sample(module, prompts)
        elif name == "pause":
            self._pause(module)

    def _commands(self, trainer: pl.Trainer) -> list[dict[str, Any]]:
        """What the first process has heard; all obey it at the same step."""
        return trainer.strategy.broadcast(self.control.take())

    def _pause(self, module: TrainModule) -> None:
        """Hold everything between two steps until `resume` or `stop`."""
        self.events.write("phase", name="paused")
        while True:
            for command in self._commands(module.trainer):
                if command["cmd"] == "resume":
                    self.events.write("phase", name="training")
                    return
                if command["cmd"] != "pause":
                    self._obey(module, command)
                if self.progress.stopped:
                    return
            time.sleep(PAUSE_POLL_S)
