"""The window's jobs through a program that plays wsl.exe: the real trainer, run on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
import pytest
from pytestqt.qtbot import QtBot

from runner_gui.model.run_store import RunStore, last_checkpoint
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.services import pipeline as pipeline_module
from runner_gui.services import place as place_module
from runner_gui.services.answer_stream import AnswerStream
from runner_gui.services.model_server import ModelServer
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.place import InDistribution, originals
from runner_gui.services.run_session import last_hello
from runner_gui.services.setup_follower import SETUP_STEPS
from runner_gui.services.stop_ladder import StopTimes
from trainer.contract.errors import AppError
from trainer.contract.params import TrainParams, checked
from wsl_bootstrap.codes import Code
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.step import Probe

SECONDS = 120_000
PLAYER = """#!/bin/sh
echo "$@" >> {world}/calls
case "$*" in *"-m trainer train"*)
    [ ! -e {world}/broken ] || {{ printf '灾难性故障\\r\\nWsl/Service/E_UNEXPECTED\\r\\n'; exit 255; }};;
esac
case "$*" in *"cat /etc/wsl.conf") printf '[automount]\\nroot={world}/mnt\\n'; exit 0;; esac
while [ "$1" != -e ]; do
    [ "$1" != --cd ] || {{ [ "$2" = "~" ] || cd "$2"; }}
    shift
done
shift
exec "$@"
"""


@dataclass(frozen=True)
class There:
    """A step that found everything there."""

    id: str
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        return Probe.satisfied("9")


@dataclass
class World:
    """A Windows with our distribution, whose inside is this machine below a folder."""

    folder: Path

    @property
    def drive(self) -> Path:
        return self.folder / "mnt" / "c"

    @property
    def inside(self) -> Path:
        return self.folder / "opt"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.drive / "Users" / "工作 folder")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path / "world")
    made.drive.mkdir(parents=True)
    python = made.inside / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    for path, text in (
        (made.folder / "wsl.exe", PLAYER.format(world=made.folder)),
        (python, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'),
    ):
        path.write_text(text)
        path.chmod(0o755)
    own = {"guid": "{1}", "name": OWN_DISTRIBUTION, "base_path": "C:\\wsl"}
    script = {"facts": {"boot_id": "1", "distributions": [own]}, "drives": {"C": str(made.drive)}}
    (made.folder / "facts.json").write_text(json.dumps(script))
    monkeypatch.setenv("RUNNER_WINDOWS_FACTS", str(made.folder / "facts.json"))
    monkeypatch.setenv("RUNNER_WSL_EXE", str(made.folder / "wsl.exe"))
    environment = Environment(made.inside / "venv")
    monkeypatch.setattr(pipeline_module, "current_environment", lambda host: environment)
    monkeypatch.setattr(pipeline_module, "setup_steps", lambda *_: tuple(map(There, SETUP_STEPS)))
    monkeypatch.setattr(place_module, "RECORDS", PurePosixPath(made.folder / "records"))
    return made


@pytest.fixture
def open_pipeline(qtbot: QtBot, world: World) -> Iterator[Callable[[], Pipeline]]:
    opened: list[Pipeline] = []

    def make() -> Pipeline:
        opened.append(Pipeline(world.workspace))
        return opened[-1]

    yield make
    for pipeline in opened:
        if pipeline.is_training:
            pipeline.stop(save=False)
            qtbot.waitUntil(lambda p=pipeline: not p.is_training, timeout=SECONDS)
        pipeline.close()


@pytest.fixture
def params(world: World, make_checkpoint: Callable[..., Any]) -> Callable[..., TrainParams]:
    base, data = world.drive / "tiny 模型.pth", world.drive / "data 数据.jsonl"
    make_checkpoint(base, n_layer=2, n_embd=64, vocab=65536, dtype="bf16")
    lines = [json.dumps({"text": f"User: {n}\n\nAssistant: Aye, {n}, matey."}) for n in range(40)]
    data.write_text("\n".join(lines), encoding="utf-8")

    def make(**changed: Any) -> TrainParams:
        values = {
            "base_model": str(base), "data": str(data), "ctx_len": 32, "epoch_steps": 4, "epoch_count": 2,
            "micro_bsz": 1, "accumulate_grad_batches": 1, "lora_r": 4, "lora_alpha": 8,
            "precision": "fp32", "device": "cpu", "grad_cp": False,
        }  # fmt: skip
        return checked({**values, **changed})

    return make


def listen(pipeline: Pipeline) -> dict[str, list[Any]]:
    heard: dict[str, list[Any]] = {name: [] for name in ("ended", "failed", "merged", "events")}
    pipeline.run_ended.connect(heard["ended"].append)
    pipeline.failed.connect(lambda problem, details: heard["failed"].append(problem))
    pipeline.merged.connect(heard["merged"].append)
    pipeline.event_received.connect(heard["events"].append)
    return heard


def test_training_and_merging_run_inside_on_copies(
    open_pipeline: Callable[[], Pipeline], world: World, params: Callable[..., TrainParams], qtbot: QtBot
) -> None:
    pipeline = open_pipeline()
    assert isinstance(pipeline.place, InDistribution)
    heard = listen(pipeline)
    given = params(mix_data=(f"{params().data}=0.5",))
    pipeline.start(given)
    qtbot.waitUntil(lambda: bool(heard["ended"] or heard["failed"]), timeout=SECONDS)
    assert heard["failed"] == []
    assert heard["ended"] == ["completed"]
    assert [event["step"] for event in heard["events"] if event.t == "step"] == list(range(1, 9))
    info = RunStore(world.workspace.runs).runs()[0]
    # The trainer read copies inside; the run itself lies on Windows.
    used = info.record.params
    assert used["base_model"].startswith(f"{world.inside}/files/")
    assert used["data"].startswith(f"{world.inside}/files/")
    assert used["mix_data"] == [f"{used['data']}=0.5"]
    assert originals(pipeline.place, used)["base_model"] == given.base_model
    assert originals(pipeline.place, used)["mix_data"] == list(given.mix_data)
    # It was converted once, on Windows; the trainer inside found that and did not do it again.
    (converted,) = (world.workspace.cache / "data").glob("*/data.bin")
    taken_over = world.inside / "cache" / "data" / converted.parent.name / "data.bin"
    assert taken_over.stat().st_nlink == 2  # the copied file itself
    assert taken_over.read_bytes() == converted.read_bytes()
    point = last_checkpoint(info.folder)
    assert point is not None
    qtbot.waitUntil(lambda: not pipeline.is_busy, timeout=SECONDS)
    pipeline.merge(point, info.folder)
    qtbot.waitUntil(lambda: bool(heard["merged"] or heard["failed"]), timeout=SECONDS)
    assert heard["failed"] == []
    merged = Path(heard["merged"][0])
    assert merged.parent == world.workspace.models
    assert merged.name.startswith("tiny 模型-LoRA-")
    assert merged.stat().st_size > 0
    assert not [path for path in (world.inside / "merged").rglob("*") if path.suffix == ".pth"]


def test_a_later_window_finds_the_run_watches_it_and_stops_it(
    open_pipeline: Callable[[], Pipeline], world: World, params: Callable[..., TrainParams], qtbot: QtBot
) -> None:
    first = open_pipeline()
    heard = listen(first)
    first.start(params(epoch_steps=5000))
    qtbot.waitUntil(lambda: any(e.t == "step" for e in heard["events"]), timeout=SECONDS)
    run = first.run_folder
    assert run is not None
    first.detach()
    first.close()
    second = open_pipeline()
    store = RunStore(world.workspace.runs, second.place.is_held)
    assert [info.status for info in store.runs()] == ["running"]  # its lock is held on the other side
    with pytest.raises(AppError):
        store.delete(run)
    again = listen(second)
    second.attach(run)
    qtbot.waitUntil(lambda: any(e.t == "step" for e in again["events"]), timeout=SECONDS)
    second.stop(save=True)
    qtbot.waitUntil(lambda: bool(again["ended"]), timeout=SECONDS)
    assert again["ended"] == ["stopped"]
    assert not second.place.is_held(run)
    assert last_checkpoint(run) is not None
    # And on from there, with the files that the record's names stand for.
    qtbot.waitUntil(lambda: not second.is_busy, timeout=SECONDS)
    before = len(again["events"])
    second.resume(run)
    qtbot.waitUntil(lambda: any(e.t == "step" for e in again["events"][before:]), timeout=SECONDS)
    assert again["failed"] == []


def test_what_does_not_stop_is_ended_inside_with_all_it_started(
    world: World, params: Callable[..., TrainParams], qtbot: QtBot
) -> None:
    pipeline = Pipeline(world.workspace, stop_times=StopTimes(ack_s=0.01, save_s=0.01, term_s=0.01))
    heard, rungs = listen(pipeline), []
    pipeline.stop_rung_reached.connect(rungs.append)
    pipeline.start(params(epoch_steps=5000))
    qtbot.waitUntil(lambda: any(e.t == "step" for e in heard["events"]), timeout=SECONDS)
    run = pipeline.run_folder
    assert run is not None
    hello = last_hello(run)
    assert hello is not None
    pipeline.stop(save=True)
    qtbot.waitUntil(lambda: bool(heard["ended"]), timeout=SECONDS)
    assert rungs[-1] in ("terminating", "killing")
    assert heard["ended"] == ["stopped"]
    assert not psutil.pid_exists(hello["pid"])
    assert any("kill -s" in call and call.endswith((" TERM", " KILL")) for call in calls(world))
    assert not any("--terminate" in call for call in calls(world))
    pipeline.close()


def calls(world: World) -> list[str]:
    return (world.folder / "calls").read_text().splitlines()


def test_a_failure_of_wsl_is_told_as_one(
    open_pipeline: Callable[[], Pipeline], world: World, params: Callable[..., TrainParams], qtbot: QtBot
) -> None:
    pipeline = open_pipeline()
    heard = listen(pipeline)
    (world.folder / "broken").touch()
    pipeline.start(params())
    qtbot.waitUntil(lambda: bool(heard["failed"]), timeout=SECONDS)
    problem = heard["failed"][0]
    assert isinstance(problem, Code)
    assert problem.id == "vm_crashed"
    assert problem.args["token"] == "Wsl/Service/E_UNEXPECTED"


def test_a_chat_answers_from_inside(
    open_pipeline: Callable[[], Pipeline], world: World, params: Callable[..., TrainParams], qtbot: QtBot
) -> None:
    server = ModelServer(open_pipeline().place)
    answered: list[str] = []
    try:
        server.start(ServeOptions(Path(params().base_model)))
        qtbot.waitUntil(lambda: server.is_ready, timeout=SECONDS)
        question = [{"role": "user", "content": "Hi"}]
        stream = AnswerStream(server, "chat", {"messages": question, "max_tokens": 3}, server)
        stream.finished.connect(answered.append)
        qtbot.waitUntil(lambda: bool(answered), timeout=SECONDS)
        assert answered == ["length"]
    finally:
        server.close()
    assert any("serve --model=" in call for call in calls(world))


def test_the_computer_stays_awake_while_it_trains(
    open_pipeline: Callable[[], Pipeline], params: Callable[..., TrainParams], qtbot: QtBot
) -> None:
    pipeline = open_pipeline()
    windows = pipeline.setup.host.windows  # type: ignore[attr-defined]
    heard, awake = listen(pipeline), []
    pipeline.event_received.connect(lambda _: awake.append(windows.awake))
    pipeline.start(params())
    qtbot.waitUntil(lambda: bool(heard["ended"]), timeout=SECONDS)
    assert set(awake) == {True}
    assert not windows.awake
