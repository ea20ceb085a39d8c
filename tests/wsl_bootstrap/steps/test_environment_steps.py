"""The Python environment, torch, and the proof that they compute."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.environment import DISTRIBUTION, Environment, SetupOptions
from wsl_bootstrap.hosts.base import Gpu, GpuFacts
from wsl_bootstrap.hosts.linux import LinuxHost
from wsl_bootstrap.interpreter import ask_python
from wsl_bootstrap.step import StepError
from wsl_bootstrap.steps.python_env import BASE_PACKAGES, PythonEnvStep
from wsl_bootstrap.steps.smoke_test import SmokeTestStep
from wsl_bootstrap.steps.torch_env import TRAIN_PACKAGES, TorchEnvStep, choose_build
from wsl_bootstrap.transitions import Event

ENVIRONMENT = Environment(Path("/env"), base_python="/usr/bin/python3", source=DISTRIBUTION)
H100 = Gpu("NVIDIA H100", 80 * 2**30, (9, 0))
P40 = Gpu("Tesla P40", 24 * 2**30, (6, 1))
WITH_GPU = GpuFacts((H100,), "580.65")
PIP = ("/env/bin/python", "-m", "pip", "install", "--disable-pip-version-check", "--no-input")


def answer(
    version: tuple[int, int, int] = (3, 11, 7),
    *,
    missing: tuple[str, ...] = (),
    can_make_venv: bool = True,
    torch: dict[str, Any] | None = None,
) -> tuple[int, str]:
    """Return what an interpreter prints when it is asked."""
    facts = {"version": version, "can_make_venv": can_make_venv, "missing": missing, "torch": torch}
    return 0, json.dumps(facts)


def torch_answer(version: str, cuda: str | None, sees_gpu: bool) -> tuple[int, str]:
    return answer(torch={"version": version, "cuda_version": cuda, "sees_gpu": sees_gpu})


def nobody(payload: object) -> None:
    """Listens to what a step reports and does nothing with it."""


# Python


@pytest.mark.parametrize(
    ("answers", "event", "code_id"),
    [
        ({"/env/bin/python": answer()}, Event.FOUND_SATISFIED, None),
        ({"/env/bin/python": answer(missing=("orjson",))}, Event.FOUND_MISSING, "packages_missing"),
        ({"/env/bin/python": answer((3, 9, 2))}, Event.FOUND_BLOCKED, "python_unsupported"),
        ({"/env/bin/python": answer((3, 14, 0))}, Event.FOUND_BLOCKED, "python_unsupported"),
        ({"/env/bin/python": (1, "bad magic")}, Event.FOUND_MISSING, "venv_broken"),
        ({"/usr/bin/python3": answer()}, Event.FOUND_MISSING, "venv_missing"),
        ({"/usr/bin/python3": answer((3, 9, 2))}, Event.FOUND_BLOCKED, "python_unsupported"),
        ({"/usr/bin/python3": answer(can_make_venv=False)}, Event.FOUND_BLOCKED, "venv_module_missing"),
        ({"/usr/bin/python3": (1, "no encodings")}, Event.FOUND_BLOCKED, "python_broken"),
    ],
)
def test_python_env_probe(
    host: Any, answers: dict[str, tuple[int, str]], event: Event, code_id: str | None
) -> None:
    host.answers = answers
    probe = PythonEnvStep(ENVIRONMENT).probe(host)
    assert (probe.event, probe.code and probe.code.id) == (event, code_id)
    if code_id == "venv_module_missing":
        assert probe.code is not None
        assert probe.code.args["command"] == "sudo apt-get install python3.11-venv"


def test_an_environment_is_made_only_where_none_works(host: Any) -> None:
    step = PythonEnvStep(ENVIRONMENT)
    make, install = ("/usr/bin/python3", "-m", "venv", "/env"), (*PIP, "rwkv-lora-runner")
    assert step.plan(host, SetupOptions()).commands == (make, install)
    host.answers["/env/bin/python"] = (1, "bad magic")
    assert step.plan(host, SetupOptions()).commands == (make, install)
    host.answers["/env/bin/python"] = answer(missing=("orjson",))
    plan = step.plan(host, SetupOptions(index_url="https://mirror.example/simple"))
    assert plan.commands == ((*PIP, "--index-url", "https://mirror.example/simple", "rwkv-lora-runner"),)
    assert plan.needs_consent


def test_a_real_environment_is_made_and_found_again(tmp_path: Path) -> None:
    """`venv` runs for real; only the installation, which would need a network, is left out."""
    environment = Environment(tmp_path / "my env", source=DISTRIBUTION)
    step, native = PythonEnvStep(environment), LinuxHost()
    probe = step.probe(native)
    assert probe.code == make_code("venv_missing", path=str(environment.folder))
    plan = step.plan(native, SetupOptions())
    # --without-pip: unpacking pip would take most of this test's time.
    make_only = replace(plan, commands=((*plan.commands[0], "--without-pip"),))
    step.apply(native, make_only, nobody, CancelToken())
    probe = step.probe(native)
    assert probe.code == make_code("packages_missing", packages=", ".join(BASE_PACKAGES))
    assert probe.value == sys.version.split()[0]


@pytest.mark.parametrize(("packages", "table"), [(BASE_PACKAGES, "dependencies"), (TRAIN_PACKAGES, "train")])
def test_what_is_looked_for_is_what_the_project_installs(packages: tuple[str, ...], table: str) -> None:
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8")
    found = re.search(rf"^{table} = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert found is not None
    listed = set(re.findall(r'^ *"([A-Za-z0-9-]+)', found[1], re.MULTILINE))
    # torch is settled by itself, the others are the window's.
    assert set(packages) == listed - {"torch", "PySide6-Essentials", "pyqtgraph", "httpx"}


# torch


@pytest.mark.parametrize(
    ("facts", "preference", "requirement", "cuda"),
    [
        (GpuFacts(), "auto", "torch>=2.5,<2.14", False),
        (GpuFacts((H100,), "470.1"), "auto", "torch>=2.5,<2.14", False),
        (WITH_GPU, "cpu", "torch>=2.5,<2.14", False),
        (WITH_GPU, "auto", "torch>=2.5,<2.14", True),
        (GpuFacts((H100,), "579.9"), "auto", "torch>=2.5,<2.11", True),
        (GpuFacts((H100,), "525.1"), "auto", "torch>=2.5,<2.11", True),
        (GpuFacts((P40,), "580.65"), "auto", "torch>=2.5,<2.8", True),
        (GpuFacts((H100, P40), "580.65"), "auto", "torch>=2.5,<2.8", True),
    ],
)
def test_the_driver_and_the_oldest_gpu_choose_the_build(
    facts: GpuFacts, preference: str, requirement: str, cuda: bool
) -> None:
    build = choose_build(facts, preference)
    assert (build.requirement, build.cuda) == (requirement, cuda)


@pytest.mark.parametrize(
    ("said", "gpus", "event", "code_id"),
    [
        (answer(), GpuFacts(), Event.FOUND_MISSING, "torch_missing"),
        ((1, "libtorch.so: undefined symbol"), GpuFacts(), Event.FOUND_MISSING, "torch_broken"),
        (torch_answer("2.13.0+cpu", None, False), GpuFacts(), Event.FOUND_SATISFIED, None),
        (torch_answer("2.13.0", "13.0", False), GpuFacts(), Event.FOUND_SATISFIED, None),
        (torch_answer("2.13.0", "13.0", True), WITH_GPU, Event.FOUND_SATISFIED, None),
        (torch_answer("2.13.0+cpu", None, False), WITH_GPU, Event.FOUND_MISSING, "torch_misfit"),
        (
            torch_answer("2.13.0", "13.0", False),
            GpuFacts((H100,), "550.1"),
            Event.FOUND_MISSING,
            "torch_misfit",
        ),
        (torch_answer("2.13.0", "13.0", False), WITH_GPU, Event.FOUND_SATISFIED, "torch_gpu_unseen"),
    ],
)
def test_torch_env_probe(
    host: Any, said: tuple[int, str], gpus: GpuFacts, event: Event, code_id: str | None
) -> None:
    host.answers["/env/bin/python"] = said
    host.gpus = gpus
    probe = TorchEnvStep(ENVIRONMENT).probe(host)
    assert (probe.event, probe.code and probe.code.id) == (event, code_id)


def test_who_wants_the_cpu_build_is_not_talked_out_of_it(host: Any) -> None:
    host.gpus = WITH_GPU
    host.answers["/env/bin/python"] = torch_answer("2.13.0+cpu", None, False)
    assert TorchEnvStep(replace(ENVIRONMENT, torch="cpu")).probe(host).event is Event.FOUND_SATISFIED


def test_packages_beside_torch_are_missed_by_name(host: Any) -> None:
    code, said = torch_answer("2.13.0+cpu", None, False)
    host.answers["/env/bin/python"] = (code, json.dumps({**json.loads(said), "missing": ["rwkv"]}))
    assert TorchEnvStep(ENVIRONMENT).probe(host).code == make_code("packages_missing", packages="rwkv")


def test_the_cpu_build_comes_first_and_from_its_own_index(host: Any) -> None:
    options = SetupOptions(cpu_index_url="https://cpu.example/whl")
    plan = TorchEnvStep(ENVIRONMENT).plan(host, options)
    assert plan.commands == (
        (*PIP, "--extra-index-url", "https://cpu.example/whl", "--no-deps", "torch>=2.5,<2.14"),
        (*PIP, "rwkv-lora-runner[train]", "torch>=2.5,<2.14"),
    )
    without = TorchEnvStep(ENVIRONMENT).plan(host, SetupOptions(cpu_index_url=None))
    assert without.commands[0] == (*PIP, "--no-deps", "torch>=2.5,<2.14")


@pytest.mark.parametrize(
    ("said", "replaced"),
    [
        (None, False),
        (answer(), False),
        (torch_answer("2.10.0", "12.8", True), False),
        (torch_answer("2.10.0+cpu", None, False), True),
        (torch_answer("2.13.0", "13.0", False), True),
        ((1, "undefined symbol"), True),
    ],
)
def test_a_cuda_build_replaces_only_what_does_not_fit_and_costs_more(
    host: Any, said: tuple[int, str] | None, replaced: bool
) -> None:
    cpu = TorchEnvStep(ENVIRONMENT).plan(host, SetupOptions())
    host.gpus = GpuFacts((H100,), "550.1")
    if said is not None:
        host.answers["/env/bin/python"] = said
    plan = TorchEnvStep(ENVIRONMENT).plan(host, SetupOptions(index_url="https://mirror.example/simple"))
    remove = ("/env/bin/python", "-m", "pip", "uninstall", "--yes", "torch")
    assert plan.commands == (
        *((remove,) if replaced else ()),
        (*PIP, "--index-url", "https://mirror.example/simple", "rwkv-lora-runner[train]", "torch>=2.5,<2.11"),
    )
    assert not plan.within(cpu)
    assert cpu.within(plan)


def test_the_versions_that_were_tested_are_named_only_where_they_fit(host: Any, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    step = TorchEnvStep(replace(ENVIRONMENT, source=str(tmp_path)))
    # In every command: the CPU build that comes first has to be the one that the second then keeps.
    assert ["-c" in command for command in step.plan(host, SetupOptions()).commands] == [True, True]
    host.gpus = GpuFacts((H100,), "550.1")
    assert "-c" not in step.plan(host, SetupOptions()).commands[-1]


def test_installing_reports_what_pip_says(host: Any) -> None:
    host.answers["/env/bin/python -m pip"] = (0, "Successfully installed torch")
    step, heard = TorchEnvStep(ENVIRONMENT), []
    step.apply(host, step.plan(host, SetupOptions()), heard.append, CancelToken())
    assert [line.text for line in heard][1::2] == ["Successfully installed torch"] * 2
    assert len(host.commands) == 2


# The proof


def _doctor(folder: Path, body: str) -> Environment:
    """Put a stand-in for the trainer into `folder`; this very interpreter runs it."""
    (folder / "trainer").mkdir()
    (folder / "trainer" / "__init__.py").touch()
    (folder / "trainer" / "__main__.py").write_text(
        f"import json, sys\nassert sys.argv[1:] == ['doctor', '--json']\n{body}\n"
    )
    (folder / "pyproject.toml").touch()
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    return Environment(folder, source=str(folder))


def _verdict(*checks: tuple[str, bool, str]) -> str:
    answer = {
        "ok": all(ok for _, ok, _ in checks),
        "checks": [{"id": name, "ok": ok, "detail": detail} for name, ok, detail in checks],
    }
    return f"print('compiling...')\nprint(json.dumps({answer!r}))"


def test_the_doctor_is_asked_once_and_not_before_its_turn(tmp_path: Path) -> None:
    step, native = (
        SmokeTestStep(_doctor(tmp_path, _verdict(("torch", True, ""), ("kernel", True, "")))),
        LinuxHost(),
    )
    assert step.probe(native).code == make_code("smoke_not_run")
    plan = step.plan(native, None)
    assert not plan.needs_consent
    step.apply(native, plan, nobody, CancelToken())
    probe = step.probe(native)
    assert (probe.event, probe.value) == (Event.FOUND_SATISFIED, "2/2")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            _verdict(("torch", True, ""), ("kernel", False, "off by 0.3"), ("disk", False, "read-only")),
            make_code("smoke_failed", failed="kernel, disk", detail="kernel: off by 0.3\ndisk: read-only"),
        ),
        ("sys.exit('no torch')", make_code("smoke_no_answer", exit_code=1, detail="no torch")),
        ("print('[]')", make_code("smoke_no_answer", exit_code=0, detail="[]")),
        ("pass", make_code("smoke_no_answer", exit_code=0, detail="")),
        (
            """print('{"ok": true, "checks": []}')""",
            make_code("smoke_no_answer", exit_code=0, detail='{"ok": true, "checks": []}'),
        ),
        (
            """print('{"ok": true, "checks": [{"id": "a", "ok": false}]}')""",
            make_code(
                "smoke_no_answer", exit_code=0, detail='{"ok": true, "checks": [{"id": "a", "ok": false}]}'
            ),
        ),
    ],
)
def test_a_doctor_that_does_not_pass_proves_nothing(tmp_path: Path, body: str, code: object) -> None:
    step, native = SmokeTestStep(_doctor(tmp_path, body)), LinuxHost()
    with pytest.raises(StepError) as caught:
        step.apply(native, step.plan(native, None), nobody, CancelToken())
    assert caught.value.code == code
    assert step.probe(native).event is Event.FOUND_MISSING


@pytest.mark.parametrize(
    ("cuda", "sees_gpu", "imports"),
    [(None, False, 1), ("12.8", True, 1), ("12.8", False, 3)],  # one that does not see the GPU is asked again
)
def test_torch_is_imported_until_it_was_seen_to_work(
    host: Any, cuda: str | None, sees_gpu: bool, imports: int
) -> None:
    host.gpus = WITH_GPU
    facts = {"version": (3, 11, 7), "can_make_venv": True, "missing": (), "torch_stamp": "torch 1"}
    with_torch = {**facts, "torch": {"version": "2.10.0", "cuda_version": cuda, "sees_gpu": sees_gpu}}
    host.answers["/env/bin/python"] = (0, json.dumps(with_torch))
    step = TorchEnvStep(ENVIRONMENT)
    probes = [step.probe(host) for _ in range(3)]
    assert probes[0] == probes[1] == probes[2]
    assert sum(command[3] == "torch" for command in host.commands) == imports
    for change in ({"torch_stamp": "torch 2"}, {}):
        host.answers["/env/bin/python"] = (0, json.dumps({**with_torch, **change}))
        step.probe(host)
        assert host.commands[-1][3] == "torch"


def test_an_interpreter_says_which_installation_of_torch_it_has() -> None:
    facts = ask_python(LinuxHost(), sys.executable, ())
    assert facts.torch is None
    assert (facts.torch_stamp is not None) == (util.find_spec("torch") is not None)
