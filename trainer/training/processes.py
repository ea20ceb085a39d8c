"""The processes that compute a run: which of them this one is, who started it, and whether all live.

Lightning starts those of a machine itself; on several machines, or where `torchrun` or the launcher of
DeepSpeed has started them, environment variables tell who is who. Without torch: what a process is has to be
known before that is imported.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from trainer.contract.errors import AppError, InputError, Problem
from trainer.contract.params import TrainParams

# A process that ends takes its connections along, and the others fail within moments; where they do not
# notice, as over NCCL, the run is ended all the same.
GRACE_S = 20.0
_POLL_S = 0.5
Child = subprocess.Popen[bytes]


def world_size(params: TrainParams) -> int:
    """Processes of all machines, one for each device."""
    return params.devices * params.num_nodes


def started_outside() -> bool:
    """Whether a launcher started every process, and not this project the others."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def local_rank() -> int:
    """This process's number on its machine, which is that of its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def rank(devices: int) -> int:
    """This process's number among all, with `devices` of them on each machine."""
    if started_outside():
        return int(os.environ["RANK"])
    return int(os.environ.get("NODE_RANK", "0")) * devices + local_rank()


def is_first() -> bool:
    """Whether this process does the talking and the writing."""
    return rank(1) == 0


def check_processes(params: TrainParams) -> None:
    """Hold what a launcher has started against what the run asks for.

    Raises:
        InputError: `processes_differ`.
    """
    if started_outside() and int(os.environ["WORLD_SIZE"]) != world_size(params):
        raise InputError(
            "processes_differ",
            started=int(os.environ["WORLD_SIZE"]),
            devices=params.devices,
            num_nodes=params.num_nodes,
        )


def find_interface() -> None:
    """Have Gloo speak over the network interface that leads to the first machine.

    By itself it takes the one that the machine's own name stands for, and that is often the loopback.
    """
    main = os.environ.get("MASTER_ADDR")
    if main is None or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((main, 1))  # sends nothing
        own = probe.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if own in (address.address for address in addresses):
                os.environ["GLOO_SOCKET_IFNAME"] = name


def shares_of_data(params: TrainParams) -> tuple[Problem, ...]:
    """What several devices do to the data, in words; nothing where there is one."""
    world = world_size(params)
    if world == 1:
        return ()
    a_step = params.micro_bsz * params.accumulate_grad_batches
    return (Problem("devices_share_data", {"devices": world, "each": a_step, "samples": a_step * world}),)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however that went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


class Others:
    """The processes that this one has started.

    Args:
        children: gives those of rank 1 and up, once the launcher has started them.
        on_lost: called in a thread when one has failed and this process has not noticed for `GRACE_S`.
    """

    def __init__(
        self, children: Callable[[], Sequence[Child]], on_lost: Callable[[AppError], object]
    ) -> None:
        self._children, self._on_lost = children, on_lost
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="processes", daemon=True).start()

    def lost(self) -> AppError | None:
        """Which of them has failed, if one has."""
        for number, child in enumerate(self._children(), 1):
            if status := child.poll():
                how = f"signal {-status}" if status < 0 else f"status {status}"
                return AppError("process_lost", what=f"rank {number}, {how}")
        return None

    def _watch(self) -> None:
        while not self._closed.wait(_POLL_S):
            if (error := self.lost()) is not None:
                if not self._closed.wait(GRACE_S):
                    self._on_lost(error)
                return

    def close(self, *, failed: bool) -> None:
        """Wait for them to end as this process does; where it failed they may hang."""
        self._closed.set()
        for child in self._children():
            try:
                child.wait(_POLL_S if failed else GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
