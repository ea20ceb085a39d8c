"""A person's choices, and the file that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.mirrors import MIRRORS, OFFICIAL, Mirror
from wsl_bootstrap.options import SetupOptions


def test_official_names_no_address() -> None:
    assert MIRRORS[OFFICIAL] == Mirror()
    assert SetupOptions().pip_arguments() == ()
    assert SetupOptions().distribution == OWN_DISTRIBUTION


@pytest.mark.parametrize("name", [name for name in MIRRORS if name != OFFICIAL])
def test_a_mirror_has_what_is_downloaded(name: str) -> None:
    mirror = MIRRORS[name]
    assert mirror.packages
    assert mirror.packages.startswith("https://")
    assert mirror.system
    assert mirror.images
    assert mirror.images.endswith("/")
    assert SetupOptions(mirror=name).pip_arguments() == ("--index-url", mirror.packages)


def test_what_is_given_by_hand_goes_first() -> None:
    own = Mirror(packages="https://here/simple", system="http://here")
    assert SetupOptions(mirror="custom", custom=own).source == own
    by_hand = SetupOptions(mirror="aliyun", index_url="https://there/simple", proxy="http://p:1")
    assert by_hand.pip_arguments() == ("--index-url", "https://there/simple", "--proxy", "http://p:1")
    assert by_hand.source.system == MIRRORS["aliyun"].system
    assert SetupOptions(mirror="nobody knows it").source == Mirror()


def test_choices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_TORCH_INDEX", "https://builds")
    chosen = SetupOptions(
        mirror="custom",
        custom=Mirror(packages="https://x/s"),
        proxy="http://p:1",
        folder="D:\\训练",
        rootfs="D:\\r.gz",
    )
    chosen.save(tmp_path / "deep" / "setup.json")
    assert SetupOptions.load(tmp_path / "deep" / "setup.json") == chosen
    assert "builds" not in (tmp_path / "deep" / "setup.json").read_text("utf-8")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"custom": 3}', '{"custom": {"colour": "blue"}}', "null"])
def test_a_file_that_is_not_understood_means_the_defaults(tmp_path: Path, text: str) -> None:
    (tmp_path / "setup.json").write_text(text, "utf-8")
    assert SetupOptions.load(tmp_path / "setup.json") == SetupOptions()
    assert SetupOptions.load(tmp_path / "none.json") == SetupOptions()


def test_what_a_later_version_keeps_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "setup.json").write_text('{"mirror": "ustc", "colour": "blue"}', "utf-8")
    assert SetupOptions.load(tmp_path / "setup.json") == SetupOptions(mirror="ustc")
