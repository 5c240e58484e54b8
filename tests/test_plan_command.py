"""``trainoff plan`` from the command line."""

from __future__ import annotations

import json

import pytest

from trainoff.command_line import main

GPT = ("--net", "gpt2", "--net.width", "32", "--net.depth=2", "--net.heads", "2")
SMALL = (*GPT, "--input-shape", "16", "--output-size", "100")


def planned(capsys, *arguments):
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_net_is_planned_under_each_strategy(capsys):
    plan = planned(capsys, *SMALL, "--devices", "4", "--batch", "8", "--memory", "1MB", "--recipe", "adamw")
    rows = {row["strategy"]: row for row in plan["strategies"]}
    assert list(rows) == ["single_device", "ddp", "deepspeed 1", "deepspeed 2", "fsdp"]
    assert [row["samples"] for row in rows.values()] == [8, 2, 2, 2, 2]
    peaks = {name: row["memory"]["peak"] for name, row in rows.items()}
    assert peaks["deepspeed 2"] < peaks["deepspeed 1"] < peaks["ddp"]
    assert {name: row["fits"] for name, row in rows.items()} == {name: peak <= 10**6 for name, peak in peaks.items()}
    width, parameters = 32, plan["strategies"][0]["memory"]["parameter_count"]
    assert parameters == (100 + 16) * width + 2 * (12 * width**2 + 13 * width) + 2 * width
    assert plan["flops_per_step"] == 8 * rows["ddp"]["memory"]["flops_per_sample"]
    assert plan["step"]["seconds"] > 0


def test_all_ways_to_say_a_net_and_a_recipe_agree(capsys):
    recipe = ("--recipe.optimizer", "sgd", "--recipe.optimizer.momentum", "0.9", "--recipe.optimizer.lr", "1e-2")
    dotted = planned(capsys, *SMALL, *recipe)
    mapping = planned(
        capsys,
        "--net",
        "{name: gpt2, width: 32, depth: 2, heads: 2}",
        *SMALL[-4:],
        "--recipe",
        "{optimizer: {name: sgd, momentum: 0.9, lr: 1e-2}}",
    )
    assert dotted["recipe"] == mapping["recipe"]
    assert dotted["training"] == mapping["training"]
    assert dotted["strategies"] == mapping["strategies"]
    memory = dotted["strategies"][0]["memory"]
    assert memory["optimizer_state"] == memory["parameters"]


def test_what_needs_whole_parameters_is_not_planned_sharded(capsys):
    arguments = (*SMALL, "--devices", "2", "--batch", "4", "--recipe", "adamw-ema")
    plan = planned(capsys, *arguments)
    assert "fsdp" not in [row["strategy"] for row in plan["strategies"]]
    assert list(plan["refused"]) == ["fsdp"]
    assert main(["plan", *arguments, "--strategy", "fsdp"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_strategy_of_the_recipe_is_the_one_that_is_planned(capsys):
    plan = planned(capsys, *SMALL, "--recipe.strategy", "{name: ddp, devices: 4}", "--batch", "8")
    assert [(row["strategy"], row["devices"]) for row in plan["strategies"]] == [("ddp", 4)]


@pytest.mark.parametrize(
    "arguments",
    [
        (*SMALL, "--devices", "4", "--batch", "8", "--memory", "80GB"),
        ("smoke",),
        ("smoke", "--memory", "80GB", "--workers", "3"),
    ],
)
def test_tables_fit_a_hundred_columns(arguments, capsys):
    assert main(["plan", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) > 5


def test_a_suite_is_planned(capsys):
    plan = planned(capsys, "smoke", "--workers", "2")
    assert {pair["recipe"] for pair in plan["pairs"]} == {"adamw", "sgd"}
    assert plan["trials"] == sum(pair["trials"] for pair in plan["pairs"])
    assert plan["workers"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "plan: say a suite, or a net as in --net gpt2"),
        (("digits", "--net", "gpt2"), "plan: say a suite, or a net as in --net gpt2"),
        (("digist",), "no suite is called 'digist'; did you mean digits or"),
        (("digits", "--batch", "8"), "--batch: is for --net; a suite has its own"),
        (("digits", "--recipe.batch", "8"), "--recipe.batch: is for --net; a suite has its own"),
        (("--net", "gtp2"), "no net is called 'gtp2'; did you mean gpt2?"),
        (("--net", "{name: "), "--net: '{name: ' is neither a name nor a value"),
        (("--net", "gpt2", "--net.widht", "8"), "takes no 'widht'; did you mean width?"),
        (("--net", "gpt2", "--net.width"), "--net.width: has no value"),
        (("--net", "gpt2", "--recipe", "adamv"), "no optimizer is called 'adamv'; did you mean adam"),
        (("--net", "gpt2", "--recipe.sheddule", "cosine"), "a recipe has no 'sheddule'; did you mean schedule?"),
        (("--net", "mlp", "--input-shape", "3x"), "--input-shape: '3x' is no shape; write 3,224,224"),
        (("--net", "mlp", "--module", "klassifier"), "no LightningModule is called 'klassifier'"),
        (("--net", "mlp", "--memory", "lots"), "--memory: 'lots' is no amount of memory; write 80GB"),
        (("--net", "mlp", "--strategy", "dp"), "--strategy: no plan is made for 'dp'; did you mean ddp"),
        (
            ("--net", "mlp", "--devices", "3", "--batch", "8"),
            "--batch: 8 samples cannot be shared equally by 3 devices",
        ),
        (("--net", "mlp", "--devices", "0"), "argument --devices: 0 is not a whole number from 1"),
        (("--net", "mlp", "--what"), "unrecognized arguments: --what"),
        (("--net", "lenet5", "--input-shape", "3,2"), "takes images"),
        (("--net", "torch.nn.Linear"), "is not known here: say --module, --input-shape and --output-size too"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, said, capsys):
    assert main(["plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err
