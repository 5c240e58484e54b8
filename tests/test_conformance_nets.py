"""Each deliberately broken net fails exactly the checks that it should."""

from __future__ import annotations

import pytest
import torch
from failed_checks import failed
from torch import nn
from torch.nn import functional as F

from trainoff.datamodules import Digits
from trainoff.modules.nets import MLP


class Spare(MLP):
    """Has a layer that nothing uses."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])
        self.spare = nn.Linear(3, 3)


class FixedSizes(nn.Module):
    def __init__(self, width=4):
        super().__init__()


class AlwaysTen(MLP):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, 10, hidden=[32])


class Sociable(MLP):
    """In eval mode a sample's output depends on the others'."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])

    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(0))


class HiddenState(MLP):
    """Random numbers that are neither a parameter nor a buffer."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])
        self.mask = torch.rand(output_size)

    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs * self.mask.to(outputs)


class Anonymous(MLP):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])
        self.scale = lambda outputs: 1.1 * outputs

    def forward(self, inputs):
        return self.scale(super().forward(inputs))


class FullPrecisionOnly(MLP):
    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])

    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs + float(outputs.detach().numpy().mean()) * 0


class Constant(MLP):
    """Its outputs do not depend on its inputs enough to learn."""

    def __init__(self, input_shape, output_size):
        super().__init__(input_shape, output_size, hidden=[32])

    def forward(self, inputs):
        return super().forward(inputs * 0)


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Spare, {"gradients"}),
        (FixedSizes, {"takes sizes"}),
        (AlwaysTen, {"output shape"}),
        (Sociable, {"evaluation"}),
        (HiddenState, {"state dict"}),
        (Anonymous, {"pickles"}),
        (FullPrecisionOnly, {"bf16"}),
        (Constant, {"trains"}),
    ],
)
def test_a_broken_net_fails_its_check(broken, checks):
    assert failed("net", broken) == checks


def test_the_data_that_checks_train_on_are_digits():
    from trainoff.benchmarks.conformance.nets import _ColourDigits, _FlatDigits, _LargeDigits

    labels = Digits().split("train")[1]
    for data, shape in ((_ColourDigits, (3, 32, 32)), (_FlatDigits, (64,)), (_LargeDigits, (1, 32, 32))):
        inputs, targets = data().split("train")
        assert tuple(inputs.shape[1:]) == data().input_shape == data.facts.input_shape == shape
        assert torch.equal(targets, labels)
    small = F.avg_pool2d(_LargeDigits().split("val")[0], 4)
    torch.testing.assert_close(small, Digits().split("val")[0])
