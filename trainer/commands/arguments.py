"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
import math


def positive_number(text: str) -> float:
    """An argparse type: a number above 0, neither NaN nor infinite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value
