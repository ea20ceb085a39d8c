"""`python -m runner_gui`."""

from __future__ import annotations

import sys

from runner_gui.app import main

sys.exit(main())
