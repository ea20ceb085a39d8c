"""The helper that runs as administrator: fixed actions and nothing else."""

from __future__ import annotations

import pytest

from wsl_bootstrap import elevated
from wsl_bootstrap.elevated import Action, action_commands, carry_out

FEATURES = action_commands(Action.ENABLE_FEATURES)
INSTALL = action_commands(Action.INSTALL_WSL)


@pytest.mark.parametrize(
    "argv", [[], ["format-c"], ["enable-features", "calc.exe"], ["enable-features; calc"]]
)
def test_it_refuses_what_is_not_on_its_list(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr(elevated, "_run", ran.append)
    assert elevated.main(argv) == elevated.USAGE
    assert ran == []


@pytest.mark.parametrize(
    ("codes", "result", "commands"),
    [
        ([0, 0, 0], 0, 3),
        ([3010, 0, 0], 3010, 3),
        ([0, 3010, 0], 3010, 3),
        ([50], 50, 1),  # not supported: nothing more is tried
        ([3010, 87], 87, 2),
        ([3010, 3010, 0xFFFFFFFF], 3010, 3),  # the restart comes first, the package is tried again after it
        ([0, 0, 0xFFFFFFFF], 0xFFFFFFFF, 3),
    ],
)
def test_one_exit_code_for_all(codes: list[int], result: int, commands: int) -> None:
    ran: list[tuple[str, ...]] = []
    answers = iter(codes)

    def run(command: tuple[str, ...]) -> int:
        ran.append(command)
        return next(answers)

    assert carry_out([Action.ENABLE_FEATURES, Action.INSTALL_WSL], run) == result
    assert ran == [*FEATURES, *INSTALL][:commands]


def test_commands_name_their_programs_in_full_and_take_no_words_from_outside() -> None:
    for action in Action:
        for command in action_commands(action, "D:\\Windows"):
            assert command[0].startswith("D:\\Windows\\System32\\")
            assert command[0].endswith((".exe",))


def test_a_program_that_is_not_there_is_a_code_of_windows() -> None:
    assert elevated._run(("/no/such/program",)) == 2
