"""What strategies need, options on their way to Lightning's classes, and how many processes a recipe asks for."""

from __future__ import annotations

import sys
from unittest.mock import MagicMock

import lightning.pytorch.strategies.deepspeed as deepspeed
import pytest
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from trainoff.errors import UserError
from trainoff.modules import Recipe, strategy_requirements
from trainoff.modules.strategy_requirements import check_requirements, processes_of


@pytest.fixture
def gpus(monkeypatch):
    """Says how many there are."""
    return lambda count: monkeypatch.setattr("torch.cuda.device_count", lambda: count)


@pytest.mark.parametrize(
    ("strategy", "count"),
    [
        (None, 1),
        ("ddp", 1),
        ({"name": "ddp", "devices": 3}, 3),
        ({"name": "ddp", "devices": "2"}, 2),
        ({"name": "ddp", "devices": [0, 2]}, 2),
        ({"name": "ddp", "devices": "0,1,3"}, 3),
        ({"name": "ddp", "devices": "auto"}, 4),
        ({"name": "ddp", "devices": -1}, 4),
        ({"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"devices": 2}}, 2),
    ],
)
def test_processes(strategy, count, gpus):
    gpus(4)
    assert processes_of(strategy) == count


def test_all_devices_of_a_machine_without_gpus_are_one(gpus):
    gpus(0)
    assert processes_of({"name": "ddp", "devices": "auto"}) == 1


@pytest.mark.parametrize(
    ("strategy", "count", "message"),
    [
        ("fsdp", 0, "strategy: 'fsdp' runs on GPUs only, and there is none"),
        ("deepspeed", 0, "strategy: 'deepspeed' runs on GPUs only"),
        ({"name": "ddp", "devices": 4}, 1, "strategy.devices: asks for 4 devices; there is 1"),
        ({"name": "fsdp", "devices": 4}, 2, "strategy.devices: asks for 4 devices; there are 2"),
        (
            {"name": "ddp", "devices": 2, "sync_batchnorm": True},
            0,
            "strategy.sync_batchnorm: torch's SyncBatchNorm runs",
        ),
    ],
)
def test_missing_devices(strategy, count, message, gpus, monkeypatch):
    gpus(count)
    monkeypatch.setattr(strategy_requirements, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=message):
        check_requirements(Recipe(strategy=strategy))


@pytest.mark.parametrize(("name", "package"), [("deepspeed", "deepspeed"), ("xla", "torch_xla")])
def test_missing_packages(name, package, monkeypatch):
    monkeypatch.setattr(strategy_requirements, "find_spec", lambda name: None)
    for use in (check_requirements, Recipe.trainer_arguments):
        with pytest.raises(UserError, match=f"strategy: '{name}' needs the package {package}, which is not installed"):
            use(Recipe(strategy=name))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (
            {"name": "ddp", "find_unused": True},
            "strategy.find_unused: takes no 'find_unused'; did you mean find_unused_p",
        ),
        ({"name": "ddp", "devices": 0}, "strategy.devices: 0 is not a number from 1"),
        ({"name": "ddp", "nodes": -1}, "strategy.nodes: -1 is not a number from 1"),
        ({"name": "single_device", "devices": 2}, "strategy.devices: single_device has one device, not 2"),
        (
            {"name": "model_parallel", "devices": 2, "data_parallel_size": 2},
            "data_parallel_size 2 times tensor_parallel_s",
        ),
    ],
)
def test_contradictions(strategy, message):
    with pytest.raises(UserError, match=message):
        Recipe(strategy=strategy).validate()


def test_options_of_ddp_spawn_leave_it_spawning():
    strategy = Recipe(strategy={"name": "ddp_spawn", "find_unused_parameters": True}).trainer_arguments()["strategy"]
    assert type(strategy) is DDPStrategy
    assert strategy._start_method == "spawn"
    assert strategy._ddp_kwargs == {"find_unused_parameters": True}
    assert Recipe(strategy="ddp_spawn").trainer_arguments() == {"strategy": "ddp_spawn"}


def test_options_of_model_parallel_reach_it():
    options = {"data_parallel_size": 4, "tensor_parallel_size": 2, "save_distributed_checkpoint": False}
    arguments = Recipe(strategy={"name": "model_parallel", "devices": 8, **options}).trainer_arguments()
    strategy = arguments["strategy"]
    assert type(strategy) is ModelParallelStrategy
    assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (4, 2)
    assert arguments["devices"] == 8


def test_options_of_deepspeed_reach_it(monkeypatch):
    """Up to the device's edge: the configuration that DeepSpeed would be given."""
    monkeypatch.setattr(strategy_requirements, "find_spec", lambda name: object())
    for name in ("_DEEPSPEED_AVAILABLE", "_DEEPSPEED_GREATER_EQUAL_0_16"):
        monkeypatch.setattr(deepspeed, name, True)
    monkeypatch.setitem(sys.modules, "deepspeed", MagicMock())
    options = {"stage": 3, "offload_optimizer": True, "offload_parameters": True, "reduce_bucket_size": 1000}
    strategy = Recipe(strategy={"name": "deepspeed", "devices": 2, **options}).trainer_arguments()["strategy"]
    zero = strategy.config["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "cpu"
    assert zero["reduce_bucket_size"] == 1000
