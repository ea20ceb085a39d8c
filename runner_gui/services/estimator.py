"""What a run with the form's parameters would need, found out by a child process while the window goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner_gui.services.commands import Command, estimate_args, trainer_command
from runner_gui.services.latest_job import LatestJob


class Estimator(LatestJob):
    """Memory and time of a run; `finished` carries what `rwkv-trainer estimate --json` prints."""

    def command(self, values: Mapping[str, Any]) -> Command:
        return trainer_command("", *estimate_args(values))
