"""Numbers as people read them, in the language of the window. For display only: never parsed back."""

from __future__ import annotations

import math

from PySide6.QtCore import QDateTime, QLocale

from runner_gui.i18n import language, tr

NONE = "—"
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")


def _locale() -> QLocale:
    return QLocale(language())


def whole(value: float | None) -> str:
    """An integer with the language's thousands separators."""
    return NONE if value is None or not math.isfinite(value) else _locale().toString(round(value))


def loss(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:.3f}"


def rate(value: float | None) -> str:
    """A learning rate or another small number: 5e-5, 1.25e-4, 0."""
    if value is None or not math.isfinite(value):
        return NONE
    return scientific(float(f"{value:.3g}"))


def scientific(value: float) -> str:
    """The shortest spelling of a number that Python reads back unchanged: 5e-5, 0.001, 1e-8."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.16e}".partition("e")
    for digits in range(17):
        text = f"{value:.{digits}e}"
        if float(text) == value:
            mantissa, _, exponent = text.partition("e")
            break
    power = int(exponent)
    return f"{value:g}" if -3 <= power < 6 and float(f"{value:g}") == value else f"{mantissa}e{power}"


def count(value: float | None) -> str:
    """A number of parameters: 4.2 M, 1.5 B."""
    if value is None or not math.isfinite(value):
        return NONE
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= 0.9995 * limit:
            shown = value / limit
            return f"{_locale().toString(shown, 'f', 1 if shown < 99.5 else 0)} {unit}"
    return whole(value)


def size(count_bytes: float | None) -> str:
    """A size in decimal units: 92 MB, 1.4 GB."""
    if count_bytes is None or not math.isfinite(count_bytes):
        return NONE
    value, unit = float(count_bytes), 0
    while value >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and value < 99.5 else 0
    return f"{_locale().toString(value, 'f', digits)} {_BYTE_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """A time span in its two largest units: 40 s, 3 min 20 s, 1 h 12 min."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    total = max(0, round(seconds))
    if total < 60:
        return tr("time.s", s=total)
    if total < 600:
        return tr("time.min_s", min=total // 60, s=total % 60)
    if total < 3600:
        return tr("time.min", min=round(total / 60))
    if total < 86400:
        return tr("time.h_min", h=total // 3600, min=total % 3600 // 60)
    return tr("time.d_h", d=total // 86400, h=total % 86400 // 3600)


def moment(unix_s: float) -> str:
    """A date and time of day, to the minute."""
    return _locale().toString(QDateTime.fromSecsSinceEpoch(int(unix_s)), "yyyy-MM-dd HH:mm")


def percent(value: float | None) -> str:
    """A share that is given in hundredths: 42 %."""
    return NONE if value is None or not math.isfinite(value) else f"{whole(value)} %"


def part(used_bytes: float, total_bytes: float) -> str:
    """How much of something is used, in GB: 9.1 / 24 GB."""

    def shown(value: float) -> str:
        return _locale().toString(value / 1e9, "f", 1 if value < 99.5e9 else 0)

    return f"{shown(used_bytes)} / {shown(total_bytes)} GB"
