from __future__ import annotations

from typing import Any

import pytest

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.diagnostics import LAST_LINES, diagnostics
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan, Probe
from wsl_bootstrap.texts import LANGUAGES, load_texts
from wsl_bootstrap.transitions import State


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_has_system_steps_plans_and_the_end_of_the_output(host: Any, language: str) -> None:
    code = make_code("download_failed", detail="https://me:geheim@host broke off")
    statuses = (
        Status("gpu", State.SATISFIED, Probe.satisfied("RTX 4090")),
        Status("torch_env", State.FAILED, code=code),
    )
    plans = (Plan("torch_env", (("pip", "install", "torch"),), download_bytes=2_000_000_000),)
    lines = {"torch_env": [f"line {number}" for number in range(200)]}
    text = diagnostics(host, statuses, plans, lines, language)
    texts = load_texts(language)
    for part in (
        "Debian GNU/Linux 12 (bookworm)",
        f"{texts['step.gpu.name']}: {texts['setup.state.satisfied']} · RTX 4090",
        texts["setup.download_failed.title"],
        "$ pip install torch",
        "line 199",
        f"line {200 - LAST_LINES}\n",
    ):
        assert part in text, part
    assert f"line {200 - LAST_LINES - 1}\n" not in text
    assert "geheim" not in text
