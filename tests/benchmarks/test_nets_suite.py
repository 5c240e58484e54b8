"""The suite ``nets``: every net for images, as the registry knows it."""

from __future__ import annotations

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
