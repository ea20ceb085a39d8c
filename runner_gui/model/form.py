"""The form's values: what is typed, what of it differs from the preset, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from PySide6.QtCore import QObject, Signal

from trainer.contract.errors import Problem
from trainer.contract.params import PARAMS, TrainParams, check


class FormState(QObject):
    """Values of the parameter form by name, checked as a whole at each change.

    Signals:
        value_changed: a value is another one now; carries its name.
        problems_changed: `problems` was computed anew and differs.
    """

    value_changed = Signal(str)
    problems_changed = Signal()

    def __init__(self, values: Mapping[str, Any] | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._preset: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        # Problems by parameter name; those of no single parameter are under "".
        self.problems: dict[str, list[Problem]] = {}
        self._params: TrainParams | None = None
        self.load(values or {})

    def load(self, values: Mapping[str, Any], keep: Collection[str] = ()) -> None:
        """Take a preset: the defaults with `values` over them. Names that are no parameters are dropped.

        Args:
            keep: names whose values stay as they are.
        """
        known = {name: value for name, value in values.items() if name in PARAMS}
        self._preset = {name: known.get(name, param.default) for name, param in PARAMS.items()}
        before = self.values
        self.values = {**self._preset, **{name: before[name] for name in keep if name in before}}
        self._check()
        for name, value in self.values.items():
            if name not in before or not _same(before[name], value):
                self.value_changed.emit(name)

    def set(self, name: str, value: Any) -> None:
        """Take one value as it was typed; what is wrong with it shows in `problems`.

        Raises:
            KeyError: there is no such parameter.
        """
        if name not in PARAMS:
            raise KeyError(name)
        if _same(self.values[name], value):
            return
        self.values[name] = value
        self._check()
        self.value_changed.emit(name)

    def reset(self, name: str) -> None:
        """Take the preset's value back."""
        self.set(name, self._preset[name])

    def preset_value(self, name: str) -> Any:
        """The value that `reset` would bring back."""
        return self._preset[name]

    def is_changed(self, name: str) -> bool:
        """Whether a value differs from the preset that was loaded."""
        return not _same(self.values[name], self._preset[name])

    def params(self) -> TrainParams | None:
        """The checked parameters, or None while any problem is an error."""
        return self._params

    def errors(self) -> list[Problem]:
        """The problems that stand in the way of training, in the order of the form."""
        return [p for name in self.problems for p in self.problems[name] if p.severity == "error"]

    def _check(self) -> None:
        # A required value that was never given is absent, so that it is reported as missing, not as None.
        given = {n: v for n, v in self.values.items() if v is not None or not PARAMS[n].required}
        self._params, found = check(given)
        problems: dict[str, list[Problem]] = {}
        for name in ("", *PARAMS):
            if of_name := [p for p in found if (p.param or "") == name]:
                problems[name] = of_name
        if problems != self.problems:
            self.problems = problems
            self.problems_changed.emit()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return list(a) == list(b)
    return type(a) is type(b) and a == b
