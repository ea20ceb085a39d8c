"""Whole runs of a tiny model on the CPU: numbers, resuming, stopping, and how they fail."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.adapters.files import read_adapter
from trainer.data.tokenizers import load_tokenizer
from trainer.training import run as runs
from trainer.training.module import TrainModule

Run = Callable[..., Any]


def test_losses_of_a_seeded_run(run_train: Run) -> None:
    ran = run_train(lora_dropout=0.0)
    assert ran.status == "completed"
    assert [round(loss, 3) for loss in ran.losses.values()] == EXPECTED_LOSSES


def test_stopped_and_resumed_equals_undisturbed_bit_by_bit(run_train: Run) -> None:
    values = {"lora_dropout": 0.2, "epoch_count": 4, "val_fraction": 0.1}
    straight = run_train("straight", **values)
    first = run_train("broken", at={3: {"cmd": "stop", "save": True}}, **values)
    assert (first.status, first.step) == ("stopped", 3)
    second = run_train("broken", at={2: {"cmd": "stop", "save": True}}, resume=True)
    assert (second.status, second.step) == ("stopped", 5)
    last = run_train("broken", resume=True)
    assert last.status == "completed"
    assert last.losses == straight.losses
    for name in ("adapter.pth",):
        a, b = (torch.load(r.folder.checkpoints()[-1].path / name) for r in (straight, last))
        assert all(torch.equal(a[key], b[key]) for key in a if key != "lora_meta")


def test_a_stop_without_saving_goes_on_from_the_last_checkpoint(run_train: Run) -> None:
    values = {"lora_dropout": 0.2, "epoch_count": 4}
    straight = run_train("straight", **values)
    per_epoch = len(straight.losses) // 4
    stopped = run_train("broken", at={per_epoch + 1: {"cmd": "stop", "save": False}}, **values)
    assert [c.meta.step for c in stopped.folder.checkpoints()] == [per_epoch]
    resumed = run_train("broken", resume=True)
    assert resumed.of("hello")[-1]["resumed_from"] == per_epoch
    assert resumed.losses == straight.losses


@pytest.mark.parametrize("damaged", ["state.pt", "adapter.pth"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(damaged: str, run_train: Run) -> None:
    straight = run_train("straight", epoch_count=4)
    run_train("broken", at={5: {"cmd": "stop", "save": True}}, epoch_count=4)
    folder = straight.folder.path.parent / "broken"
    files = sorted(folder.glob(f"ckpt/*/{damaged}"))
    files[-1].write_bytes(files[-1].read_bytes()[:100])
    resumed = run_train("broken", resume=True)
    assert [e["code"] for e in resumed.of("warning")] == ["checkpoint_unreadable"]
    assert resumed.losses == straight.losses


def test_only_what_is_trained_is_saved_and_it_moves(run_train: Run, tiny_base: Path) -> None:
    before = torch.load(tiny_base)
    ran = run_train(lora_parts=["att", "time"])
    adapter = read_adapter(ran.folder.checkpoints()[-1].adapter)
    assert {name.split(".", 2)[2] for name in adapter.tensors if name.startswith("blocks.1")} == {
        *(f"att.{p}.lora_{x}" for p in ("receptance", "key", "value", "output") for x in "AB"),
        *(
            f"att.{v}"
            for v in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a", "r_k")
        ),
        "ffn.x_k",
    }
    assert all(t.abs().max() > 0 for n, t in adapter.tensors.items() if n.endswith("lora_B"))
    assert not torch.equal(adapter.tensors["blocks.1.att.k_k"], before["blocks.1.att.k_k"].float())
    assert adapter.meta is not None
    assert (adapter.meta.r, adapter.meta.alpha, adapter.meta.step) == (4, 8.0, ran.step)
    after = torch.load(tiny_base)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_full_training_saves_every_tensor(run_train: Run, tiny_base: Path) -> None:
    ran = run_train(method="full", lr_init=1e-3, lr_final=1e-3)
    adapter = read_adapter(ran.folder.checkpoints()[-1].adapter)
    assert set(adapter.tensors) == set(torch.load(tiny_base))
    losses = list(ran.losses.values())
    assert losses[-1] < losses[0]


def test_validation_marks_the_best_and_patience_ends_the_run(run_train: Run) -> None:
    ran = run_train(val_fraction=0.2, eval_every=1, patience=2, epoch_count=40, lr_init=0.2, lr_final=0.2)
    evals = ran.of("eval")
    best = min(evals, key=lambda e: e["loss"])
    assert best["best"]
    assert ran.status == "completed"
    assert evals[-1]["step"] == best["step"] + 2
    kept = {c.meta.step: c.meta.kinds for c in ran.folder.checkpoints()}
    assert "best" in kept[best["step"]]
    assert ran.folder.summary()["reason"] == "patience"


def test_checkpoints_are_pruned_but_best_and_manual_stay(run_train: Run) -> None:
    ran = run_train(at={1: {"cmd": "save"}}, epoch_count=6, keep_last=2)
    steps = [c.meta.step for c in ran.folder.checkpoints()]
    per_epoch = len(ran.losses) // 6
    assert steps == [1, 5 * per_epoch, 6 * per_epoch]
    assert [c.state.exists() for c in ran.folder.checkpoints()] == [False, True, True]


def test_sample_prompts_are_answered_without_changing_the_run(run_train: Run) -> None:
    plain = run_train("plain", lora_dropout=0.2)
    ran = run_train("sampled", lora_dropout=0.2, sample_prompts=["User: the sea\n\nAssistant:"],
                    sample_every=2, sample_tokens=4)  # fmt: skip
    assert ran.losses == plain.losses
    samples = ran.of("sample")
    assert {s["step"] for s in samples} == {0, max(ran.losses), *(s for s in ran.losses if s % 2 == 0)}
    assert all(isinstance(s["text"], str) for s in samples)


def test_commands_are_acknowledged_and_obeyed(run_train: Run) -> None:
    ran = run_train(
        at={
            1: {"cmd": "eval", "id": "a"},
            2: {"cmd": "fly", "id": "b"},
            3: {"cmd": "sample", "prompt": "x", "id": "c"},
        },
        val_fraction=0.2,
        sample_tokens=2,
    )
    acks = {e["id"]: (e["ok"], e["code"]) for e in ran.of("ack")}
    assert acks == {"a": (True, None), "b": (False, "unknown_command"), "c": (True, None)}
    assert [event["step"] for event in ran.of("eval")][:2] == [0, 1]
    assert ran.of("sample")[0]["prompt"] == "x"


def test_pause_holds_the_step_until_resume(run_train: Run) -> None:
    ran = run_train(at={1: {"cmd": "pause"}, 4: {"cmd": "resume"}})
    phases = [e["name"] for e in ran.of("phase")]
    assert phases[phases.index("paused") + 1] == "training"
    assert ran.status == "completed"


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was_saved(
    run_train: Run, tiny_base: Path, tiny_data: Path
) -> None:
    tensors = torch.load(tiny_base)
    zebra = load_tokenizer(None, 65536).encode(" zebra")[0]
    tensors["emb.weight"][zebra] = float("nan")
    torch.save(tensors, tiny_base)
    tiny_data.write_text(tiny_data.read_text() + '\n{"text": "a keeper met a zebra"}')
    ran = run_train(at={1: {"cmd": "save"}}, seed=2, packing=False, epoch_count=1)
    assert ran.error is not None
    assert ran.error.code == "nonfinite_loss"
    assert ran.error.problem.args == {"step": ran.of("step")[-1]["step"], "saved_step": 1}
    last = ran.of("step")[-1]
    assert last["step"] > 1
    assert (last["loss"], last["nonfinite"]["loss"]) == (None, "nan")
    (saved,) = ran.folder.checkpoints()
    assert all(torch.isfinite(t).all() for t in read_adapter(saved.adapter).tensors.values())
    assert ran.folder.status() == "failed"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "oom_vram"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "oom_vram",
        ),
        (MemoryError(), "oom_ram"),
        (None, "oom_ram"),
    ],
)
@pytest.mark.parametrize("where", ["load_base", "training_step"])
def test_memory_that_runs_out_is_told_by_its_code_and_nothing_is_lost(
    where: str, raised: Exception | None, code: str, run_train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_train(at={2: {"cmd": "stop", "save": True}})

    def fail(*_: Any) -> None:
        if raised is not None:
            raise raised
        torch.empty(1 << 50, dtype=torch.uint8)  # what the allocator itself says where there is no such room

    target = runs if where == "load_base" else TrainModule
    with monkeypatch.context() as patch:
        patch.setattr(target, where, fail)
        failed = run_train(resume=True)
    assert failed.error is not None
    assert failed.error.code == code
    assert failed.of("error")[-1]["fatal"]
    assert failed.folder.status() == "failed"
    assert [c.meta.step for c in failed.folder.checkpoints()] == [2]
    assert run_train(resume=True).status == "completed"


def test_a_clock_that_jumps_changes_nothing(run_train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = run_train("straight", at={2: {"cmd": "save"}})
    now_s, jumps = time.time(), itertools.cycle((0, -86_400, 3600, -7200))
    monkeypatch.setattr(time, "time", lambda: now_s + next(jumps))
    ran = run_train("jumping", at={2: {"cmd": "save"}})
    assert ran.losses == straight.losses
    assert [c.meta.step for c in ran.folder.checkpoints()] == [
        c.meta.step for c in straight.folder.checkpoints()
    ]
    steps = ran.of("step")
    assert [e.seq for e in ran.events] == list(range(len(ran.events)))
    assert all(0 < e["step_s"] < 60 and e["tok_s"] > 0 for e in steps)
    assert all(0 <= e["eta_s"] < 600 for e in steps if e["eta_s"] is not None)
    assert 0 < ran.folder.summary()["seconds"] < 600
    resumed = run_train("jumping", resume=True)
    assert (resumed.status, resumed.of("hello")[-1]["resumed_from"]) == ("completed", ran.step)


def test_what_a_kill_left_of_checkpoints_is_removed(run_train: Run) -> None:
    ran = run_train(at={2: {"cmd": "stop", "save": True}})
    half, unsaved, damaged = (ran.folder.ckpt / name for name in ("000001", "000003.tmp", "000000"))
    for leftover in (half, unsaved, damaged):
        leftover.mkdir()
        (leftover / "adapter.pth").write_bytes(b"half")
    (damaged / "meta.json").write_text("{}")
    resumed = run_train(resume=True)
    assert resumed.status == "completed"
    assert not half.exists()
    assert not unsaved.exists()
    assert damaged.exists()
    assert 2 in {c.meta.step for c in resumed.folder.checkpoints()}


def test_changed_data_or_base_is_refused_and_nothing_is_touched(
    run_train: Run, tiny_base: Path, tiny_data: Path
) -> None:
    ran = run_train(at={2: {"cmd": "stop", "save": True}})
    before = sorted(p.name for p in ran.folder.ckpt.iterdir())
    text = tiny_data.read_text()
    tiny_data.write_text(text.replace("sea", "see"))
    assert run_train(resume=True).error.code == "data_changed"
    tiny_data.write_text(text)
    base = bytearray(tiny_base.read_bytes())
    base[len(base) // 2] ^= 1
    tiny_base.write_bytes(base)
    assert run_train(resume=True).error.code == "base_changed"
    assert sorted(p.name for p in ran.folder.ckpt.iterdir()) == before


@pytest.fixture
def general(tmp_path: Path) -> Path:
    path = tmp_path / "general = 一般.jsonl"
    path.write_text("\n".join(json.dumps({"text": " ".join(WORDS[i:]) * 9}) for i in range(6)))
    return path


def test_mixed_data_is_trained_on_and_resumed_exactly_in_the_middle_of_an_epoch(
    run_train: Run, general: Path
) -> None:
    values = {"mix_data": [f"{general}=0.5"], "lora_dropout": 0.2, "epoch_count": 3, "packing": False}
    plain = run_train("plain", **values | {"mix_data": []})
    straight = run_train("straight", **values)
    assert plain.step == 3 * 24 // 4
    assert straight.step == 3 * (24 + 12) // 4
    record = straight.folder.read()
    assert len(record.mixed_sha256) == 1
    assert record.params["mix_data"] == [f"{general.resolve()}=0.5"]
    assert record.total_steps == straight.step
    first = run_train("broken", at={5: {"cmd": "stop", "save": True}}, **values)
    assert (first.status, first.step) == ("stopped", 5)
    last = run_train("broken", resume=True)
    assert last.losses == straight.losses


def test_mixed_data_that_changed_is_refused(run_train: Run, general: Path) -> None:
    run_train(at={2: {"cmd": "stop", "save": True}}, mix_data=[f"{general}=0.5"])
    general.write_text(general.read_text().replace("sea", "see"))
    error = run_train(resume=True).error
    assert (error.code, error.problem.args["path"]) == ("data_changed", str(general.resolve()))


def test_mixed_data_that_is_missing_ends_the_run_before_it_begins(run_train: Run, tmp_path: Path) -> None:
    ran = run_train(mix_data=[f"{tmp_path / 'none.jsonl'}=0.1"])
    assert (ran.error.code, ran.error.problem.args["path"]) == (
        "data_not_found",
        str(tmp_path / "none.jsonl"),
    )
    assert (ran.folder.read(), ran.of("step")) == (None, [])


def test_notes_say_what_will_not_be_as_asked(
    run_train: Run, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.device.bf16_speedup", lambda: 0.1)  # some CPUs are fast in bf16
    tiny_data.write_text('{"text": "one document only, and short"}')
    ran = run_train(precision="bf16", ctx_len=4096, val_fraction=0.01)
    assert [e["code"] for e in ran.of("warning")] == ["precision_fallback", "data_short", "validation_empty"]
    assert ran.status == "completed"


def test_run_json_is_what_the_run_was_started_with(run_train: Run, tiny_data: Path) -> None:
    ran = run_train(seed=7)
    record = ran.folder.read()
    assert record is not None
    assert record.params["seed"] == 7
    assert Path(record.params["data"]) == tiny_data.resolve()
    assert record.total_steps == ran.step == max(ran.losses)
    assert json.loads(ran.folder.summary_json.read_text())["status"] == "completed"


def test_continue_from_a_lora_starts_where_it_ended(run_train: Run) -> None:
    first = run_train("first", lora_dropout=0.0, epoch_count=6)
    adapter = first.folder.checkpoints()[-1].adapter
    second = run_train("second", lora_load=str(adapter), lora_r=16, lora_alpha=1, epoch_count=1)
    assert second.losses[1] < first.losses[1] - 0.05
    meta = read_adapter(second.folder.checkpoints()[-1].adapter).meta
    assert meta is not None
    assert (meta.r, meta.alpha) == (4, 8.0)
    assert "adapter_alpha_differs" in [e["code"] for e in second.of("warning")]


def test_whole_documents_in_stretches_train_as_in_one_go(run_train: Run, tiny_data: Path) -> None:
    texts = (" ".join(WORDS[(i * j) % 7] for j in range(60 + 40 * i)) for i in range(5))
    tiny_data.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    values = {"lora_dropout": 0.0, "lora_parts": ["att", "ffn", "time"], "micro_bsz": 3, "packing": False}
    whole = run_train("whole", ctx_len=512, **values)
    stretches = run_train("stretches", ctx_len=32, infctx=True, **values)
    assert list(stretches.losses.values()) == pytest.approx(list(whole.losses.values()), abs=1e-5)
    cut = run_train("cut", ctx_len=32, infctx=True, bptt_chunks=1, **values)
    assert cut.losses[1] == pytest.approx(whole.losses[1], abs=1e-5)
    assert max(abs(cut.losses[s] - whole.losses[s]) for s in whole.losses) > 1e-4


def test_learning_rate_and_tokens_are_told(run_train: Run) -> None:
    ran = run_train(lr_schedule="cosine", warmup_steps=1)
    rates = [e["lr"] for e in ran.of("step")]
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-3)
    assert all(math.isfinite(e["grad_norm"]) for e in ran.of("step"))
    record = ran.folder.read()
    # Every token but each document's last is read, once an epoch.
    assert ran.of("step")[-1]["tokens"] == 2 * (record.data_tokens - record.data_documents)


WORDS = ("sea", "light", "keeper", "rain", "stone", "boats", "home")
EXPECTED_LOSSES = [11.689, 11.46, 11.364, 11.2, 11.238, 11.148]
