from __future__ import annotations

from dataclasses import replace

import pytest

from runner_gui.model.readiness import Action, ReadinessFacts, next_action

READY = ReadinessFacts(model_chosen=True, data_chosen=True)


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        (ReadinessFacts(), Action("choose_model")),
        (ReadinessFacts(model_chosen=True), Action("choose_data")),
        (replace(READY, parameter_errors=2), Action("fix_parameters", False, "readiness.fix_parameters")),
        (
            replace(READY, set_up_missing=True, set_up_obstacle="setup.disk_full.title"),
            Action("set_up", False, "setup.disk_full.title"),
        ),
        (replace(READY, set_up_missing=True), Action("set_up")),
        (
            replace(READY, set_up_missing=True, set_up_obstacle="x", restart_needed=True),
            Action("restart"),
        ),
        (READY, Action("train")),
        (replace(READY, busy=True), Action("stop")),
        (replace(READY, busy=True, training=True), Action("stop")),
        (
            replace(READY, busy=True, training=True, stopping=True),
            Action("stop", False, "readiness.stopping"),
        ),
        (ReadinessFacts(resumable=True), Action("resume")),
        (replace(READY, resumable=True, training=True), Action("stop")),
    ],
)
def test_the_next_thing_to_do(facts: ReadinessFacts, action: Action) -> None:
    assert next_action(facts) == action


def test_it_is_never_dead_without_a_reason() -> None:
    for bits in range(2**7):
        flags = [bool(bits >> n & 1) for n in range(7)]
        facts = ReadinessFacts(
            model_chosen=flags[0],
            data_chosen=flags[1],
            parameter_errors=int(flags[2]),
            set_up_missing=flags[3],
            busy=flags[4],
            training=flags[5],
            stopping=flags[6],
        )
        action = next_action(facts)
        assert action.enabled == (action.reason_key is None)
