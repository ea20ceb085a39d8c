from __future__ import annotations

import sys
from pathlib import Path

import trainer
from runner_gui.model.serving import ServeOptions
from runner_gui.services import commands
from trainer.contract.params import PARAMS, TrainParams

NASTY = '/数据 x/it\'s "q" $(touch gone) ; -rf'


def flags(args: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for arg in args[1:]:
        name, _, value = arg.partition("=")
        found.setdefault(name, []).append(value)
    return found


def test_every_parameter_is_a_flag() -> None:
    params = TrainParams(
        base_model=NASTY,
        data="relative.jsonl",
        lora_load="/l.pth",
        vocab="/v.txt",
        grad_cp=False,
        lora_parts=("att", "ffn"),
        data_columns="prompt=Q",
        mix_data=("general.jsonl=0.1", "/x=y=2"),
        drift_data="general.jsonl",
        sample_prompts=("-- minus first", "two\nlines"),
        lr_init=3e-5,
    )
    args = commands.train_args(params, Path("/runs/a b"))
    found = flags(args)
    assert args[0] == "train"
    assert found["--run-dir"] == ["/runs/a b"]
    assert found["--base-model"] == [NASTY]
    assert found["--data"] == [str(Path.cwd() / "relative.jsonl")]
    assert found["--lora-parts"] == ["att,ffn"]
    assert found["--mix-data"] == [f"{Path.cwd() / 'general.jsonl'}=0.1", "/x=y=2"]
    assert found["--drift-data"] == [str(Path.cwd() / "general.jsonl")]
    assert found["--sample-prompt"] == ["-- minus first", "two\nlines"]
    assert found["--no-grad-cp"] == [""]
    assert found["--packing"] == [""]
    assert float(found["--lr-init"][0]) == 3e-5
    spelled = {"--sample-prompt": "--sample-prompts"}
    names = {spelled.get(name, name.replace("--no-", "--")) for name in found}
    assert names == {param.flag for param in PARAMS.values()} | {"--run-dir"}


def test_what_is_not_given_is_no_flag() -> None:
    found = flags(commands.train_args(TrainParams(base_model="/m", data="/d"), Path("/r")))
    assert not {"--lora-load", "--vocab", "--sample-prompt"} & set(found)


def test_the_other_commands() -> None:
    assert commands.resume_args(Path("/r")) == ["train", "--run-dir=/r", "--resume"]
    assert commands.merge_args(Path("/b"), Path("/a"), Path("/o")) == [
        "merge", "--base=/b", "--adapter=/a", "--out=/o", "--json",
    ]  # fmt: skip
    more = commands.merge_args(Path("/b"), Path("/a"), Path("/o"), options=("--strength=0.5",))
    assert "--strength=0.5" in more
    assert commands.convert_args("/d", None, Path("/c"), 65536) == [
        "convert", "--data=/d", "--cache=/c", "--json", "--vocab-size=65536",
    ]  # fmt: skip
    assert commands.convert_args("/d", "/v", Path("/c"))[-1] == "--vocab=/v"
    options = ServeOptions(
        Path("/m"), Path("/a"), Path("/s"), 8.0, "cpu", "fp32", port=8000, api_key="secret"
    )
    assert commands.serve_args(options) == [
        "serve", "--model=/m", "--host=127.0.0.1", "--port=8000", "--device=cpu", "--precision=fp32",
        "--exit-with-parent", "--alpha=8.0", "--adapter=/a", "--state=/s",
    ]  # fmt: skip
    sampled = commands.serve_args(ServeOptions(Path("/m"), sampling=(("top_p", 0.3), ("max_tokens", 9))))
    assert sampled[-1] == '--defaults={"top_p": 0.3, "max_tokens": 9}'
    assert commands.export_args(Path("/m"), Path("/o.gguf"), "q8_0", lambda path: f"/in{path}") == [
        "export-model", "--model=/in/m", "--out=/in/o.gguf", "--dtype=q8_0",
    ]  # fmt: skip


def test_it_runs_where_the_package_lies(tmp_path: Path) -> None:
    command = commands.trainer_command("", "doctor", cache=tmp_path)
    assert command.argv == (sys.executable, "-X", "utf8", "-u", "-m", "trainer", "doctor")
    assert command.cwd == Path(trainer.__file__).parents[1]
    assert command.env["RUNNER_CACHE"] == str(tmp_path)
    assert commands.trainer_command("/other/python").argv[0] == "/other/python"
    assert commands.with_env(command, {"A": "1"}).env == {**command.env, "A": "1"}
