"""The residual nets for ImageNet, against torchvision's numbers, timm's, and a naive computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from net_measures import count, losses_of_training, samples
from torch import Tensor, nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.initialisation_functions import zero_residual
from trainoff.modules.nets import DynamicSEResNet, ResNet, ResNet50, SEResNet
from trainoff.modules.nets.dynamic_se_resnet import DynamicConv2d
from trainoff.modules.nets.se_resnet import SqueezeExcitation

IMAGENET = (3, 224, 224)


@pytest.mark.parametrize(
    ("depth", "published"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_parameters_are_as_many_as_torchvisions(depth: int, published: int) -> None:
    with torch.device("meta"):
        net = ResNet(IMAGENET, 1000, depth=depth)
    assert count(net) == published
    assert sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in net.modules()) - depth == (
        3 if depth < 50 else 4
    )


def test_resnet50_is_the_one_of_depth_50() -> None:
    with torch.device("meta"):
        assert count(ResNet50(IMAGENET, 1000)) == 25_557_032


@pytest.mark.parametrize(("depth", "published"), [(50, 28_088_024), (101, 49_326_872), (152, 66_821_848)])
def test_parameters_of_se_resnet_are_as_many_as_published(depth: int, published: int) -> None:
    """timm's ``legacy_seresnet50``, ``legacy_seresnet101`` and ``legacy_seresnet152``."""
    with torch.device("meta"):
        assert count(SEResNet(IMAGENET, 1000, depth=depth)) == published


def test_parameters_of_dynamic_se_resnet_are_those_of_its_formula() -> None:
    """Every convolution but the stem's four times, and two dense layers of attention for each."""
    with torch.device("meta"):
        plain, dynamic = ResNet(IMAGENET, 1000, depth=18), DynamicSEResNet(IMAGENET, 1000, depth=18)
    expected = count(plain)
    for layer in plain.blocks.modules():
        if isinstance(layer, nn.Conv2d):
            inputs, narrow = layer.in_channels, layer.in_channels // 4
            expected += 3 * layer.weight.numel() + (inputs + 1) * narrow + (narrow + 1) * 4
    assert count(dynamic) == expected == 45_472_052


def normalised(x: Tensor, norm: Any) -> Tensor:
    """Batch norm in evaluation mode."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return x * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]


def give_statistics(net: nn.Module) -> None:
    """Running statistics and scales that are not 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_var, norm.weight, norm.bias, norm.running_mean):
                assert tensor is not None
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)


def naive_resnet(net: Any, x: Tensor, bottleneck: bool, gate: bool) -> Tensor:
    """The whole net by functions, block by block."""
    stem = net.stem
    x = F.relu(normalised(F.conv2d(x, stem[0].weight, None, 2, 3), stem[1]))
    x = F.max_pool2d(x, 3, 2, 1)
    for block in net.blocks:
        branch = [layer for layer in block.branch if not isinstance(layer, (nn.ReLU, SqueezeExcitation))]
        stride = 2 if block is not net.blocks[0] and len(block.shortcut) else 1
        residual = x
        for number, (convolution, norm) in enumerate(zip(branch[::2], branch[1::2], strict=True)):
            side = convolution.weight.shape[-1]
            step = stride if number == (1 if bottleneck else 0) else 1
            residual = normalised(F.conv2d(residual, convolution.weight, None, step, side // 2), norm)
            if 2 * number + 2 < len(branch):
                residual = F.relu(residual)
        if gate:
            first, _, second, _ = block.branch[-1].excitation
            hidden = F.relu(residual.mean((2, 3)) @ first.weight.T + first.bias)
            residual = residual * torch.sigmoid(hidden @ second.weight.T + second.bias)[:, :, None, None]
        if len(block.shortcut):
            x = normalised(F.conv2d(x, block.shortcut[0].weight, None, stride), block.shortcut[1])
        x = F.relu(x + residual)
    return x.mean((2, 3)) @ net.output.weight.T + net.output.bias


@pytest.mark.parametrize("depth", [10, 18, 14, 26])
@pytest.mark.parametrize("kind", [ResNet, SEResNet])
def test_a_net_is_the_naive_computation(kind: Any, depth: int) -> None:
    torch.manual_seed(0)
    arguments = {"reduction": 4} if kind is SEResNet else {}
    net = kind((3, 64, 64), 10, depth=depth, width=4, **arguments).eval()
    give_statistics(net)
    x = samples((3, 64, 64), 2)
    torch.testing.assert_close(net(x), naive_resnet(net, x, depth in (14, 26), kind is SEResNet), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_a_dynamic_convolution_is_each_samples_own(bias: bool) -> None:
    torch.manual_seed(0)
    layer = DynamicConv2d(6, 5, 3, stride=2, bias=bias, kernels=3, temperature=2.0)
    x = samples((6, 9, 7))
    outputs = []
    for sample in x:
        first, _, second = layer.attention
        hidden = F.relu(first.weight @ sample.mean((1, 2)) + first.bias)  # type: ignore[union-attr,operator]
        shares = torch.softmax((second.weight @ hidden + second.bias) / 2.0, 0)  # type: ignore[union-attr,operator]
        kernels = layer.weight.reshape(3, 5, 6, 3, 3)
        kernel = sum(share * one for share, one in zip(shares, kernels, strict=True))
        shift = sum(s * b for s, b in zip(shares, layer.bias.reshape(3, 5), strict=True)) if bias else None  # type: ignore[union-attr]
        outputs.append(F.conv2d(sample[None], kernel, shift, 2, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(layer(x), torch.cat(outputs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.shares(x).sum(1), torch.ones(4))


def test_equal_kernels_make_a_dynamic_net_the_plain_one() -> None:
    torch.manual_seed(0)
    plain, dynamic = (kind((3, 32, 32), 10, depth=10, width=4).eval() for kind in (ResNet, DynamicSEResNet))
    state = plain.state_dict()
    for name, layer in dynamic.named_modules():
        if isinstance(layer, DynamicConv2d):
            state[f"{name}.weight"] = state[f"{name}.weight"].repeat(layer.kernels, 1, 1, 1)
    dynamic.load_state_dict(state, strict=False)
    x = samples((3, 32, 32))
    torch.testing.assert_close(dynamic(x), plain(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [ResNet, SEResNet, DynamicSEResNet])
@pytest.mark.parametrize("depth", [10, 14])
def test_with_zero_residuals_a_net_starts_as_its_shortcuts(kind: Any, depth: int) -> None:
    torch.manual_seed(0)
    net: Any = kind((3, 32, 32), 10, depth=depth, width=4, stem="small").eval()
    zero_residual(net)
    x = samples((3, 32, 32))
    features = net.stem(x)
    for block in net.blocks:
        features = F.relu(block.shortcut(features))
    torch.testing.assert_close(net(x), net.output(features.mean((2, 3))), rtol=1e-4, atol=1e-5)


def test_convolutions_start_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    net: Any = ResNet(IMAGENET, 10, depth=18)
    weight = net.blocks[-1].branch[3].weight
    assert weight.var().item() == pytest.approx(2 / (9 * 512), rel=0.02)


@pytest.mark.parametrize("kind", [ResNet, SEResNet, DynamicSEResNet])
def test_a_tiny_net_learns_by_heart(kind: Any) -> None:
    torch.manual_seed(0)
    losses = losses_of_training(kind((1, 16, 16), 10, depth=10, width=8, stem="small"), (1, 16, 16), steps=25)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ResNet, {"depth": 20}, "depth: the depth is one of 10, 14, 18, 26, 34, 50, 101, 152"),
        (ResNet, {"stem": "tiny"}, "stem"),
        (ResNet, {"width": 0}, "width"),
        (SEResNet, {"reduction": 0}, "reduction"),
        (DynamicSEResNet, {"kernels": 1}, "at least 2 kernels"),
        (DynamicSEResNet, {"temperature": 0}, "temperature"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind((3, 32, 32), 10, **arguments)
