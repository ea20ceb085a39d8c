"""What a step is: the words between the engine and whatever it drives.

A `Check` only looks. A `Step` can also make what is missing. Neither keeps state between calls that a
probe could contradict, and both reach the outside through the host that they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import Code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.journal import Costs
from wsl_bootstrap.transitions import Event

OptionsT_contra = TypeVar("OptionsT_contra", contravariant=True)


@dataclass(frozen=True)
class Probe:
    """What a look at the world found.

    `value` is the fact worth showing beside the step's name (a version, a size), in no language. Make one
    with the class methods: they keep the combinations to those that mean something.
    """

    event: Event
    value: str = ""
    code: Code | None = None

    @classmethod
    def satisfied(cls, value: str = "", code: Code | None = None) -> Probe:
        """It is there; `code` may carry a remark or a warning."""
        return cls(Event.FOUND_SATISFIED, value, code)

    @classmethod
    def not_needed(cls, code: Code) -> Probe:
        """This computer does without it."""
        return cls(Event.FOUND_NOT_NEEDED, code=code)

    @classmethod
    def missing(cls, code: Code, value: str = "") -> Probe:
        """It is not there, and the step can make it."""
        return cls(Event.FOUND_MISSING, value, code)

    @classmethod
    def blocked(cls, code: Code, value: str = "") -> Probe:
        """It is not there, and only the person can change that."""
        return cls(Event.FOUND_BLOCKED, value, code)

    @classmethod
    def unsupported(cls, code: Code, value: str = "") -> Probe:
        """It cannot be had on this computer."""
        return cls(Event.FOUND_UNSUPPORTED, value, code)

    @classmethod
    def reboot_pending(cls, code: Code, value: str = "") -> Probe:
        """The system itself says that a restart has to come first."""
        return cls(Event.FOUND_REBOOT_PENDING, value, code)


@dataclass(frozen=True)
class Plan:
    """What a step would do and what it costs, before anything is done."""

    step_id: str
    commands: tuple[tuple[str, ...], ...] = ()
    admin: bool = False
    reboot: bool = False
    download_bytes: int = 0
    disk_bytes: int = 0
    notices: tuple[Code, ...] = ()  # what else the person has to know before agreeing

    @property
    def needs_consent(self) -> bool:
        """Whether a person has to agree first; what costs nothing is simply done."""
        return bool(self.admin or self.reboot or self.download_bytes or self.disk_bytes or self.notices)

    @property
    def costs(self) -> Costs:
        """What the person agrees to."""
        notices = tuple(code.id for code in self.notices)
        return Costs(self.admin, self.reboot, self.download_bytes, self.disk_bytes, notices)

    def within(self, agreed: Plan | Costs) -> bool:
        """Return whether this plan costs no more than what the person agreed to."""
        agreed = agreed.costs if isinstance(agreed, Plan) else agreed
        return (
            self.admin <= agreed.admin
            and self.reboot <= agreed.reboot
            and self.download_bytes <= agreed.download_bytes
            and self.disk_bytes <= agreed.disk_bytes
            and set(self.costs.notices) <= set(agreed.notices)
        )


@dataclass(frozen=True)
class Outcome:
    """That an attempt ended well; `reboot` says that its effect shows only after a restart."""

    reboot: bool = False


@dataclass(frozen=True)
class OutputLine:
    """One line that a command of the step printed."""

    text: str


@dataclass(frozen=True)
class Progress:
    """How far the step is; `total` is None while nobody can know."""

    done: int
    total: int | None
    unit: str


class StepError(Exception):
    """A probe, plan or attempt failed, with the code that says how.

    Args:
        code: what to tell the person.
        retryable: trying the same again may well help (a dropped connection, a busy lock).
    """

    def __init__(self, code: Code, *, retryable: bool = False) -> None:
        super().__init__(f"{code.id} {dict(code.args)}")
        self.code = code
        self.retryable = retryable


# A step may report objects of its own besides OutputLine and Progress; the engine passes all of them on.
OnEvent = Callable[[object], None]


class Check(Protocol):
    """Looks at one thing. A pure check never reports `missing`: it has no way to make anything."""

    @property
    def id(self) -> str:
        """The name it has in tables, texts and the journal."""
        ...

    @property
    def requires(self) -> tuple[str, ...]:
        """Ids of the steps that have to be fulfilled before this one can look."""
        ...

    def probe(self, host: Host) -> Probe:
        """Look, change nothing, take a few seconds at most.

        Raises:
            StepError, HostError: it could not be told.
        """
        ...


@runtime_checkable
class Step(Check, Protocol[OptionsT_contra]):
    """A check that can also make what is missing."""

    def plan(self, host: Host, options: OptionsT_contra) -> Plan:
        """Say what would be done; change nothing. Also asked of a step whose probe has to wait."""
        ...

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Do what the plan says, in the caller's thread, reporting as it goes.

        Doing it again after it was cut off anywhere must be safe.

        Raises:
            StepError, HostError: it failed.
            CancelledError: it was asked to end, and nothing of it runs any more.
        """
        ...
