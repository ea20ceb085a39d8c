"""How busy the computer is: processor, memory and NVIDIA GPUs, looked at every two seconds while it shows."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

import psutil
from PySide6.QtCore import QObject, QProcess, QTimer, Signal

LOG = logging.getLogger(__name__)
PERIOD_S = 2
_MIB = 2**20
# One process that answers every period, not a process a period: starting it costs more than its answer.
_QUERY = (
    "--query-gpu=index,name,utilization.gpu,memory.used,memory.total",
    "--format=csv,noheader,nounits",
    f"--loop={PERIOD_S}",
)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU. `percent` is None where the driver does not tell how busy it is."""

    name: str
    percent: float | None
    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The computer at one moment; `gpu` is the one whose memory is fullest, None without an NVIDIA GPU."""

    cpu_percent: float
    memory_used_bytes: int
    memory_total_bytes: int
    gpu: GpuReading | None = None


def parse_gpu(line: str) -> tuple[int, GpuReading] | None:
    """Read `index, name, percent, used MiB, total MiB`; None for a line that says something else."""
    parts = [part.strip() for part in line.rsplit(",", 3)]
    index, comma, name = parts[0].partition(",")
    try:
        percent, used, total = parts[1:]
        busy = float(percent) if percent.replace(".", "", 1).isdigit() else None
        reading = GpuReading(name.strip(), busy, int(used) * _MIB, int(total) * _MIB)
        return (int(index), reading) if comma and reading.name else None
    except ValueError:
        return None


class SystemMonitor(QObject):
    """Looks while it is started; a window that nobody sees stops it.

    Args:
        tool: the program that knows GPUs; by default nvidia-smi where there is one.

    Signals:
        read: a Reading.
    """

    read = Signal(object)

    def __init__(self, parent: QObject | None = None, tool: str | None = None) -> None:
        super().__init__(parent)
        self._tool = tool if tool is not None else shutil.which("nvidia-smi")
        self._gpus: dict[int, GpuReading] = {}
        self._process: QProcess | None = None
        self._timer = QTimer(self, interval=1000 * PERIOD_S)
        self._timer.timeout.connect(self._look)

    def start(self) -> None:
        if self._timer.isActive():
            return
        psutil.cpu_percent(None)  # the first answer is about the time since the last question
        self._timer.start()
        if self._tool is not None:
            self._process = QProcess(self)
            self._process.setStandardErrorFile(QProcess.nullDevice())
            self._process.readyReadStandardOutput.connect(self._on_lines)
            self._process.start(self._tool, list(_QUERY))
            self._process.closeWriteChannel()

    def stop(self) -> None:
        self._timer.stop()
        process, self._process = self._process, None
        self._gpus = {}
        if process is not None:
            process.kill()
            process.waitForFinished(1000)
            process.deleteLater()

    def _on_lines(self) -> None:
        while self._process is not None and self._process.canReadLine():
            line = bytes(self._process.readLine().data()).decode("utf-8", errors="replace")
            if (found := parse_gpu(line)) is not None:
                self._gpus[found[0]] = found[1]

    def _look(self) -> None:
        memory = psutil.virtual_memory()
        if self._process is not None and self._process.state() == QProcess.ProcessState.NotRunning:
            self._gpus = {}  # the driver is gone: old numbers would lie
        gpu = max(self._gpus.values(), key=lambda gpu: gpu.used_bytes, default=None)
        used = memory.total - memory.available
        self.read.emit(Reading(psutil.cpu_percent(None), used, memory.total, gpu))
