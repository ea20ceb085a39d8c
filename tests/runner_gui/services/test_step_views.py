from __future__ import annotations

import pytest

from runner_gui.services.step_views import NODES, StepView, needs_restart, nodes, set_up_facts, view_of
from trainer.contract.errors import Problem
from wsl_bootstrap.codes import Code, Severity, make_code
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Probe
from wsl_bootstrap.transitions import State


def views(**states: str) -> dict[str, StepView]:
    every = [step for steps in NODES.values() for step in steps]
    return {step: StepView(step, states.get(step, "satisfied"), detail=f"{step}!") for step in every}


@pytest.mark.parametrize(
    ("states", "node"),
    [
        ({}, "satisfied"),
        ({"gpu": "not_needed"}, "satisfied"),
        ({"smoke_test": "missing"}, "missing"),
        ({"memory": "blocked", "smoke_test": "missing"}, "blocked"),
        ({"torch_env": "applying", "smoke_test": "missing"}, "applying"),
        ({"torch_env": "failed", "disk": "blocked"}, "failed"),
    ],
)
def test_a_node_is_in_the_state_of_its_loudest_step(states: dict[str, str], node: str) -> None:
    found = {view.id: view for view in nodes(views(**states))}
    assert list(found) == ["convert", "wsl", "environment", "train", "merge", "use"]
    assert found["environment"].state == node
    assert [m.id for m in found["environment"].members] == list(NODES["environment"])
    assert found["convert"].members == ()


def test_all_not_needed_is_not_needed() -> None:
    states = dict.fromkeys(NODES["wsl"], "not_needed")
    assert {view.id: view.state for view in nodes(views(**states))}["wsl"] == "not_needed"


def test_what_is_only_not_done_yet_is_no_problem() -> None:
    code = make_code("smoke_not_run")
    status = Status("smoke_test", State.MISSING, probe=Probe.missing(code), code=code)
    assert view_of(status) == StepView("smoke_test", "missing")
    failed = Status("convert", State.FAILED, code=Code("data_empty", Severity.ERROR, {"path": "/x"}))
    assert view_of(failed).problem == Problem("data_empty", {"path": "/x"})
    remark = make_code("gpu_none")
    shown = view_of(Status("gpu", State.SATISFIED, probe=Probe.satisfied("CPU", remark), code=remark))
    assert (shown.detail, shown.problem) == ("CPU", remark)


def test_what_is_left_to_set_up() -> None:
    assert set_up_facts(nodes(views())) == (False, None)
    assert set_up_facts(nodes(views(smoke_test="missing", convert="missing"))) == (False, None)
    assert set_up_facts(nodes(views(torch_env="missing"))) == (True, None)
    found = views(torch_env="missing")
    code = make_code("memory_too_small", have_gb=1, need_gb=2)
    found["memory"] = StepView("memory", "blocked", problem=code)
    assert set_up_facts(nodes(found)) == (True, "setup.memory_too_small.title")
    assert not needs_restart(nodes(found))
    found["wsl_feature"] = StepView("wsl_feature", "needs_reboot", problem=make_code("restart_needed"))
    assert set_up_facts(nodes(found)) == (True, "setup.restart_needed.title")
    assert needs_restart(nodes(found))
