"""DCGAN: its counts, its shapes, its start, its two nets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from trainoff.errors import UserError
from trainoff.modules.nets import DCGAN


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def closed_form(channels: int, smallest: int, latent: int, width: int, depth: int, kernel: int) -> tuple[int, int]:
    """Weights of the generator and of the discriminator, where batch norm takes the biases' place."""
    widths = [width * 2**level for level in range(depth)]
    between = sum(kernel**2 * a * b for a, b in itertools.pairwise(widths)) + kernel**2 * channels * width
    ends = smallest**2 * widths[-1]
    return latent * ends + between + 2 * sum(widths), between + ends + 2 * sum(widths[1:])


def test_the_paper_s_net_has_the_parameters_of_the_closed_form() -> None:
    with torch.device("meta"):
        net = DCGAN((3, 64, 64))
    assert (count(net.generator), count(net.discriminator)) == closed_form(3, 4, 100, 128, 4, 5)
    assert (count(net.generator), count(net.discriminator)) == (18_855_040, 17_232_768)


def test_pytorch_s_example_has_as_many() -> None:
    """netG and netD of pytorch/examples/dcgan with nz = 100, ngf = ndf = 64."""
    with torch.device("meta"):
        net = DCGAN((3, 64, 64), width=64, kernel_size=4)
    assert (count(net.generator), count(net.discriminator)) == (3_576_704, 2_765_568)


def test_figure_1_s_shapes() -> None:
    """From 4 x 4 x 1024 to 64 x 64 x 3 by 512, 256 and 128 channels."""
    with torch.device("meta"):
        net = DCGAN((3, 64, 64))
        x, shapes = torch.empty(2, 100), []
        for layer in net.generator:
            x = layer(x)
            if isinstance(layer, (nn.Unflatten, nn.ConvTranspose2d)):
                shapes.append(tuple(x.shape[1:]))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


def test_norms_are_everywhere_but_at_the_ends() -> None:
    net: Any = DCGAN((3, 64, 64), width=2, latent=4)
    kinds = [type(layer) for layer in net.generator]
    assert kinds.count(nn.BatchNorm2d) == 4
    assert kinds[-2:] == [nn.ConvTranspose2d, nn.Tanh]
    kinds = [type(layer) for layer in net.discriminator]
    assert kinds.count(nn.BatchNorm2d) == 3
    assert kinds[:3] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]
    assert all(layer.negative_slope == 0.2 for layer in net.discriminator if isinstance(layer, nn.LeakyReLU))


@settings(max_examples=25, deadline=None)
@given(
    side=st.sampled_from([8, 12, 16, 20, 24, 28, 32, 40]),
    channels=st.integers(1, 3),
    kernel=st.sampled_from([4, 5]),
    norm=st.sampled_from(["batch", "group", None]),
)
def test_any_side_that_is_a_multiple_of_four(side: int, channels: int, kernel: int, norm: str | None) -> None:
    net = DCGAN((channels, side, side), width=2, latent=3, kernel_size=kernel, norm=norm)
    images = net.generate(torch.randn(2, 3))
    assert images.shape == (2, channels, side, side)
    assert images.abs().max() <= 1
    assert net(images).shape == (2, 1)


def test_the_discriminator_is_its_formula() -> None:
    net: Any = DCGAN((1, 8, 8), width=2, latent=3).eval()
    first, second, last = (layer for layer in net.discriminator if isinstance(layer, (nn.Conv2d, nn.Linear)))
    norm = next(layer for layer in net.discriminator if isinstance(layer, nn.BatchNorm2d))
    x = torch.randn(3, 1, 8, 8)
    hidden = F.leaky_relu(F.conv2d(x, first.weight, stride=2, padding=2), 0.2)
    hidden = F.conv2d(hidden, second.weight, stride=2, padding=2)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    hidden = F.leaky_relu((hidden - norm.running_mean[:, None, None]) * scale[:, None, None], 0.2)
    torch.testing.assert_close(net(x), hidden.flatten(1) @ last.weight.T)


def test_weights_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    net = DCGAN((3, 32, 32), width=32)
    weights = torch.cat([p.flatten() for p in net.parameters() if p.ndim > 1])
    scales = torch.cat([m.weight for m in net.modules() if isinstance(m, nn.BatchNorm2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert weights.mean().item() == pytest.approx(0, abs=1e-4)
    assert scales.mean().item() == pytest.approx(1, abs=0.005)


def test_the_generator_s_loss_reaches_every_parameter_of_both() -> None:
    torch.manual_seed(0)
    net = DCGAN((1, 28, 28), width=4, latent=8)
    net(net.generate(torch.randn(4, 8))).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_an_exported_and_a_compiled_generator_give_the_same() -> None:
    net = DCGAN((1, 28, 28), width=4, latent=8).eval()
    latents = torch.randn(4, 8)
    exported = torch.export.export(net.generator, (latents,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    torch.testing.assert_close(exported.module()(torch.cat([latents, latents]))[:4], net.generate(latents))
    compiled: Any = torch.compile(net.generator, backend="aot_eager")
    torch.testing.assert_close(compiled(latents), net.generate(latents))


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((64,), {}, "takes images"),
        ((1, 9, 9), {}, "cannot be halved 2 times"),
        ((1, 6, 6), {}, "cannot be halved 2 times"),
        ((1, 28, 28), {"depth": 3}, "cannot be halved 3 times"),
        ((1, 8, 8), {"kernel_size": 3}, "4 or 5 wide"),
        ((1, 8, 8), {"width": 0}, "width"),
        ((1, 8, 8), {"latent": 0}, "latent"),
        ((1, 8, 8), {"norm": "bath"}, "did you mean batch"),
    ],
)
def test_what_makes_no_sense_is_refused(shape: tuple[int, ...], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DCGAN(shape, **arguments)
