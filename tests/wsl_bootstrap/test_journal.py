"""The journal on a real disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsl_bootstrap.journal import Costs, Journal


def test_it_survives_the_program(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "setup.json"
    journal = Journal(path)
    assert [journal.begin_attempt("a"), journal.begin_attempt("a"), journal.begin_attempt("b")] == [1, 2, 1]
    journal.ask_reboot("b", "boot-1")
    again = Journal(path)
    assert (again.attempts("a"), again.attempts("b")) == (2, 0)
    assert again.awaits_reboot("b", "boot-1")
    assert not again.awaits_reboot("b", "boot-2")
    assert not again.awaits_reboot("a", "boot-1")


def test_what_is_settled_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "setup.json"
    journal = Journal(path)
    journal.begin_attempt("a")
    journal.end_series("a")
    journal.ask_reboot("b", "boot-1")
    journal.clear("b")
    assert json.loads(path.read_text()) == {"version": 1, "steps": {}}
    assert [entry.name for entry in tmp_path.iterdir()] == ["setup.json"]


def test_a_failed_series_keeps_the_restart_that_was_asked_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "setup.json")
    journal.ask_reboot("a", "boot-1")
    journal.begin_attempt("a")
    journal.end_series("a")
    assert journal.awaits_reboot("a", "boot-1")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "steps": {}}',
        '{"version": 1}',
        '{"version": 1, "steps": {"a": {"attempts": "many", "reboot_boot_id": null}}}',
        '{"version": 1, "steps": {"a": 3}}',
        "\udcff",
    ],
)
def test_an_unreadable_journal_is_kept_aside_and_a_new_one_begun(tmp_path: Path, content: str) -> None:
    path = tmp_path / "setup.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    journal = Journal(path)
    assert journal.attempts("a") == 0
    assert (tmp_path / "setup.json.unreadable").read_bytes() == content.encode("utf-8", "surrogateescape")
    assert journal.begin_attempt("a") == 1
    assert Journal(path).attempts("a") == 1


def test_a_folder_that_cannot_be_written_costs_only_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "setup.json")
    assert [journal.begin_attempt("a"), journal.begin_attempt("a")] == [1, 2]
    assert "could not be written" in caplog.text


def test_what_was_agreed_to_outlives_the_program(tmp_path: Path) -> None:
    path = tmp_path / "setup.json"
    agreed = {
        "wsl_feature": Costs(True, True, 10, 20, ("wsl_restart_stops",)),
        "distro": Costs(False, False, 1, 2),
    }
    Journal(path).agree(agreed)
    journal = Journal(path)
    assert journal.agreed() == agreed
    journal.begin_attempt("distro")
    assert Journal(path).agreed() == agreed
    journal.agree({})
    assert Journal(path).agreed() == {}


@pytest.mark.parametrize(
    "costs", [{}, {"admin": 1}, [], {"admin": True, "reboot": True, "download_bytes": "1"}]
)
def test_an_agreement_that_is_not_understood_counts_for_nothing(tmp_path: Path, costs: object) -> None:
    path = tmp_path / "setup.json"
    path.write_text(json.dumps({"version": 1, "steps": {}, "agreed": {"distro": costs}}))
    assert Journal(path).agreed() == {}
    assert path.with_suffix(".json.unreadable").exists()
