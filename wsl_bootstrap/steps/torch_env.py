"""torch, in the build that fits the GPU's driver, and what trains with it. No CUDA toolkit is needed.

`scripts/lib/setup.sh` settles the same question for a checkout in shell, before any package of ours is there
to ask; both read the same tested version and the same variable. What it has installed, this step finds right.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.environment import Environment, SetupOptions
from wsl_bootstrap.hosts.base import CommandNotFoundError, GpuFacts, Host
from wsl_bootstrap.interpreter import InterpreterError, PythonFacts, TorchFacts, ask_python
from wsl_bootstrap.live import install
from wsl_bootstrap.step import OnEvent, Outcome, Plan, Probe
from wsl_bootstrap.steps.gpu import driver_major, usable

# What the extra `train` brings besides torch.
TRAIN_PACKAGES = (
    "pytorch-lightning",
    "rwkv",
    "fastapi",
    "uvicorn",
    "sse-starlette",
    "gguf",
    "tensorboardX",
    "tqdm",
)

_OLDEST = (2, 5)
_BELOW = (2, 14)
_BELOW_CUDA_13 = (2, 11)  # builds from 2.11 on carry CUDA 13, which takes a driver from 580 on
_BELOW_TURING_ONLY = (2, 8)  # builds from 2.8 on know no GPU older than Turing
_CUDA_13_DRIVER = 580
_TURING = (7, 5)


@dataclass(frozen=True)
class TorchBuild:
    """Which torch to install, and what it costs (measured, rounded up)."""

    cuda: bool
    below: tuple[int, int]
    download_bytes: int
    disk_bytes: int

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"torch>={_OLDEST[0]}.{_OLDEST[1]},<{self.below[0]}.{self.below[1]}"


def choose_build(facts: GpuFacts, preference: str) -> TorchBuild:
    """Return the newest build that the driver and every GPU can run; `preference` "cpu" needs neither."""
    if preference == "cpu" or not usable(facts):
        return TorchBuild(False, _BELOW, 350 * 10**6, 1_500 * 10**6)
    below = _BELOW
    if driver_major(facts) < _CUDA_13_DRIVER:
        below = _BELOW_CUDA_13
    if min(gpu.compute_capability for gpu in facts.gpus) < _TURING:
        below = _BELOW_TURING_ONLY
    return TorchBuild(True, below, 3_200 * 10**6, 6_500 * 10**6)


@dataclass(frozen=True)
class TorchEnvStep:
    """torch that imports, sees the GPU where there is one, and has the rest of the trainer beside it."""

    environment: Environment
    id: str = "torch_env"
    requires: tuple[str, ...] = ("python_env", "disk", "gpu")
    seen: dict[tuple[str | None, str], TorchFacts] = field(default_factory=dict, compare=False)

    def probe(self, host: Host) -> Probe:
        """Import it, in a process of the environment's interpreter."""
        gpu_facts = host.gpu_facts()
        try:
            facts = self._ask(host, gpu_facts)
        except InterpreterError as problem:
            return Probe.missing(make_code("torch_broken", detail=str(problem)))
        torch = facts.torch
        if torch is None:
            return Probe.missing(make_code("torch_missing"))
        if facts.missing_packages:
            packages = ", ".join(facts.missing_packages)
            return Probe.missing(make_code("packages_missing", packages=packages), torch.version)
        build = choose_build(gpu_facts, self.environment.torch)
        if not build.cuda or torch.sees_gpu:
            return Probe.satisfied(torch.version)
        gpu = gpu_facts.gpus[0].name
        if not _fits(torch, build):
            return Probe.missing(make_code("torch_misfit", version=torch.version, gpu=gpu), torch.version)
        return Probe.satisfied(torch.version, make_code("torch_gpu_unseen", version=torch.version, gpu=gpu))

    def plan(self, host: Host, options: SetupOptions) -> Plan:
        """Settle torch first, alone; the project's extra `train` then finds it there or brings it."""
        environment, build = (
            self.environment.seen_from(host),
            choose_build(host.gpu_facts(), self.environment.torch),
        )
        tested = environment.tested_versions() if build.below == _BELOW else ()
        mirror = options.pip_arguments()
        if not build.cuda:
            # Only torch itself is looked for in this index; where it cannot be reached, the others serve.
            extra = ("--extra-index-url", options.cpu_index_url) if options.cpu_index_url else ()
            alone = [*mirror, *extra, *tested, "--no-deps", build.requirement]
            first = (environment.pip_install(alone),)
        elif self._has_misfit(host, build):
            # pip takes any build of a fitting version for good enough, so one without CUDA has to go.
            first = ((environment.python, "-m", "pip", "uninstall", "--yes", "torch"),)
        else:
            first = ()
        packages = TRAIN_PACKAGES if environment.inside else environment.requirement("train")
        rest = [*mirror, *tested, *packages, build.requirement]
        return Plan(
            self.id,
            commands=(*first, environment.pip_install(rest)),
            download_bytes=build.download_bytes,
            disk_bytes=build.disk_bytes,
        )

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Run the plan's commands, with pip's lines as they come."""
        install(host, plan, self.environment.folder, on_event, cancel)
        return Outcome()

    def _ask(self, host: Host, gpu_facts: GpuFacts) -> PythonFacts:
        """Ask the interpreter; what takes seconds, importing torch, only until it was seen to work.

        Another installation or another driver is another matter, and one that does not see the GPU may see it
        the next time.
        """
        python = self.environment.python
        if self.seen:
            facts = ask_python(host, python, TRAIN_PACKAGES)
            torch = self.seen.get((facts.torch_stamp, gpu_facts.driver_version))
            if torch is not None:
                return replace(facts, torch=torch)
        facts = ask_python(host, python, TRAIN_PACKAGES, with_torch=True)
        self.seen.clear()
        torch = facts.torch
        if torch is not None and facts.torch_stamp and (torch.cuda_version is None or torch.sees_gpu):
            self.seen[facts.torch_stamp, gpu_facts.driver_version] = torch
        return facts

    def _has_misfit(self, host: Host, build: TorchBuild) -> bool:
        try:
            torch = ask_python(host, self.environment.python, (), with_torch=True).torch
        except CommandNotFoundError:
            return False
        except InterpreterError:  # a torch that does not even import
            return True
        return torch is not None and not _fits(torch, build)


def _fits(torch: TorchFacts, build: TorchBuild) -> bool:
    """Return whether the installed torch is of the kind that we would install for this GPU."""
    major, minor = torch.version.split(".")[:2]
    return torch.cuda_version is not None and _OLDEST <= (int(major), int(minor)) < build.below
