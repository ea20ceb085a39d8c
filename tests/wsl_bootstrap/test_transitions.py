"""Every pair of state and event, by a table written apart from the code's own."""

from __future__ import annotations

import itertools

import pytest

from wsl_bootstrap.transitions import STABLE, TRANSIENT, Event, IllegalTransitionError, State, next_state

# One row a state, one column an event; a dot is refused, "<-" is "back to the last stable state".
# Columns: PRobe, found SAtisfied, Not needed, MIssing, BLocked, UNsupported, REboot pending, PLan, COnsent,
# DOne, REtry, FAil, CAncel, REset.
GRID = """
              PR  SA  NN  MI  BL  UN  RP  PL  CO  DO  RT  FA  CA  RS
unknown       pro .   .   .   .   .   .   .   .   .   .   .   <-  unk
probing       .   sat not mis blo uns nee .   .   .   .   fai <-  .
satisfied     pro .   .   .   .   .   .   .   .   .   .   .   <-  unk
not_needed    pro .   .   .   .   .   .   .   .   .   .   .   <-  unk
missing       pro .   .   .   .   .   .   pla .   .   .   fai <-  unk
blocked       pro .   .   .   .   .   .   .   .   .   .   .   <-  unk
unsupported   pro .   .   .   .   .   .   .   .   .   .   .   <-  unk
planned       pro .   .   .   .   .   .   .   app .   .   .   <-  unk
applying      .   .   .   .   .   .   .   .   .   ver pla fai <-  .
verifying     .   sat not .   blo uns nee .   .   .   .   fai <-  .
needs_reboot  pro .   .   .   .   .   .   .   .   .   .   .   <-  unk
failed        pro .   .   .   .   .   .   .   .   .   .   .   <-  unk
"""
EVENTS = {
    "PR": Event.PROBE,
    "SA": Event.FOUND_SATISFIED,
    "NN": Event.FOUND_NOT_NEEDED,
    "MI": Event.FOUND_MISSING,
    "BL": Event.FOUND_BLOCKED,
    "UN": Event.FOUND_UNSUPPORTED,
    "RP": Event.FOUND_REBOOT_PENDING,
    "PL": Event.PLAN,
    "CO": Event.CONSENT,
    "DO": Event.DONE,
    "RT": Event.RETRY,
    "FA": Event.FAIL,
    "CA": Event.CANCEL,
    "RS": Event.RESET,
}
LAST_STABLE = State.BLOCKED  # reached by no other event from a transient state but one, so a mix-up shows


def _rows() -> list[tuple[State, Event, str]]:
    header, *lines = (line.split() for line in GRID.strip().splitlines())
    return [
        (State(line[0]), EVENTS[column], cell)
        for line in lines
        for column, cell in zip(header, line[1:], strict=True)
    ]


def test_the_grid_covers_every_pair_once() -> None:
    pairs = [(state, event) for state, event, _ in _rows()]
    assert sorted(pairs) == sorted(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event", "cell"), _rows())
def test_every_pair_is_legal_or_refused(state: State, event: Event, cell: str) -> None:
    if cell == ".":
        with pytest.raises(IllegalTransitionError) as caught:
            next_state(state, event, LAST_STABLE)
        assert (caught.value.state, caught.value.event) == (state, event)
    else:
        expected = LAST_STABLE if cell == "<-" else next(s for s in State if s.value.startswith(cell))
        assert next_state(state, event, LAST_STABLE) is expected


def test_stable_and_transient_split_the_states() -> None:
    assert set(State) == STABLE | TRANSIENT
    assert not STABLE & TRANSIENT
