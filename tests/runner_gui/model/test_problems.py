from __future__ import annotations

from runner_gui.model.problems import as_code, as_problem, sentence_key
from trainer.contract.errors import Problem
from wsl_bootstrap.codes import make_code


def test_keys_lead_to_each_catalogue() -> None:
    assert sentence_key(Problem("oom_ram")) == "error.oom_ram"
    assert sentence_key(make_code("gpu_none")) == "setup.gpu_none"


def test_a_trainers_problem_survives_the_engine() -> None:
    for problem in (Problem("data_not_found", {"path": "/x"}), Problem("disk_full", {"path": "/x"})):
        assert as_problem(as_code(problem)) == problem


def test_a_code_of_the_set_up_stays_one_also_where_the_trainer_has_its_name() -> None:
    code = make_code("disk_full", path="/x", have_gb=1, need_gb=2)
    assert as_problem(code) is code
    torch = make_code("torch_missing")
    assert sentence_key(as_problem(torch)) == "setup.torch_missing"
