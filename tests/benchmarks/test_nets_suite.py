"""The suite ``nets``: every net for images, as the registry knows it."""

from __future__ import annotations

import torch

from trainoff.benchmarks.suite import load_suite
from trainoff.modules.nets import NETS

IMAGES = [entry for entry in NETS if entry.domain == "images" and not entry.package]


def test_every_net_for_images_is_there_in_its_tiny_form() -> None:
    suite = load_suite("nets")
    nets = {task.name: task.module["net"] for task in suite.tasks}
    assert set(nets) == {"linear", "mlp", *(entry.name for entry in IMAGES)}
    for entry in (NETS["linear"], NETS["mlp"], *IMAGES):
        assert nets[entry.name] == {"name": entry.name, **entry.tiny}


def test_all_are_rows_of_one_table_under_one_recipe() -> None:
    suite = load_suite("nets")
    assert {task.row_of for task in suite.tasks} == {"digits at 32 x 32"}
    assert len({(str(task.data), task.budget, task.metric) for task in suite.tasks}) == 1
    assert len(suite.recipes) == 1


def test_the_full_nets_are_those_of_their_papers() -> None:
    """The numbers of parameters for CIFAR-10 of those papers that give them."""
    published = {"wideresnet28_10": 36_479_194, "3c3d": 895_210, "resnet20": 269_722, "densenet121": 769_162}
    for task in load_suite("nets", "full").tasks:
        if task.name in published:
            arguments = {key: value for key, value in task.module["net"].items() if key != "name"}
            with torch.device("meta"):
                net = NETS[task.name].load()((3, 32, 32), 10, **arguments)
            assert sum(parameter.numel() for parameter in net.parameters()) == published.pop(task.name)
    assert not published
