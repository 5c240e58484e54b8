"""The validation metrics of each task of a sequence alone: what has been forgotten?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from trainoff.modules.supervised_module import SupervisedModule


def metrics_of_tasks(module: SupervisedModule, datamodule: Any) -> dict[str, Tensor]:
    """Each metric on each task's validation split, such as ``val/accuracy_task1``; none where there are no tasks.

    The tasks are those of a DataModule with ``validation_tasks``, their number, and ``task_dataloader("val", task)``.

    Args:
        module: In eval mode, without gradients.
        datamodule: The Trainer's, or None.
    """
    found: dict[str, Tensor] = {}
    for task in range(getattr(datamodule, "validation_tasks", 0)):
        metrics = module.validation_metrics.clone(postfix=f"_task{task + 1}")
        metrics.reset()
        for batch in datamodule.task_dataloader("val", task):
            with module.trainer.precision_plugin.val_step_context():
                outputs, targets = module.compare(batch)
                loss = module.loss_function(outputs, targets)
                module.update_metrics(metrics, batch, outputs, targets, loss)
        found |= metrics.compute()  # over all ranks
    return found
