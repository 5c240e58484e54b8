"""Each deliberately broken regularizer fails exactly the checks that it should."""

from __future__ import annotations

import lightning as L
import pytest
from failed_checks import failed
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.regularizers import Regularizer


class Shrink(Regularizer):
    """Scales gradients, right in every way."""

    def __init__(self, factor: float = 0.9):
        super().__init__()
        self.factor = factor

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(self.factor)


class ChangesBatches(Regularizer):
    """Augments in place: where batches are views, the set is changed."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch[0].add_(0.01)


class ChangesValidation(Regularizer):
    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        batch[0].mul_(0.9)


class Addressed(Shrink):
    def __init__(self):
        super().__init__()
        self.address = id(self)


class Counting(Shrink):
    """Counts where the key of its state is made from."""

    steps = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.steps += 1


class Unsaved(Shrink):
    """What it does depends on a count that no checkpoint holds."""

    def __init__(self):
        super().__init__()
        self._steps = 0

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self._steps += 1
        if self._steps % 30 == 0:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad.zero_()


class Everywhere(L.Callback):
    """Not derived from Regularizer, so nothing confines it to its own module."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        for parameter in pl_module.parameters():
            parameter.grad.mul_(0.9).add_(1e-3)


class Choosy(Shrink):
    """Needs a dropout layer, and does not say so by ``acts_on``."""

    def on_fit_start(self, trainer, pl_module):
        if not any(isinstance(layer, nn.Dropout) for layer in pl_module.modules()):
            raise UserError("no dropout layer")


class HonestlyChoosy(Choosy):
    acts_on = "net"


class Misplaced(Shrink):
    acts_on = "moon"


@pytest.mark.parametrize("regularizer", [Shrink, HonestlyChoosy])
def test_a_plain_regularizer_behaves(regularizer):
    assert failed("regularizer", regularizer) == set()


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (ChangesBatches, {"leaves data alone"}),
        (ChangesValidation, {"leaves data alone"}),
        (Addressed, {"state key"}),
        (Counting, {"state key"}),
        (Unsaved, {"resumes"}),
        (Everywhere, {"acts on", "inert elsewhere"}),
        (Choosy, {"foreign module"}),
        (Misplaced, {"acts on"}),
    ],
)
def test_a_broken_regularizer_fails_its_check(broken, checks):
    assert failed("regularizer", broken) == checks


def test_a_regularizer_that_is_no_callback():
    assert failed("regularizer", f"{__name__}.NoCallback") == {"builds"}


class NoCallback:
    pass
