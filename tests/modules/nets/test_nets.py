"""Every net of the registry, and what each promises about itself."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from tiny_nets import batch, build, samples_for, tiny
from torch import nn

from trainoff.errors import UserError
from trainoff.modules import nets
from trainoff.modules.nets import NETS

NAMES = [entry.name for entry in NETS if not entry.package]
IMAGE_NETS = [entry.name for entry in NETS if entry.domain in ("any", "images") and not entry.package]
WITHOUT_DROPOUT = {"linear"}


def test_listing_needs_no_torch() -> None:
    program = "import sys; from trainoff.modules.nets import NETS; print(len(NETS)); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(hasattr(nets, name) for name in nets.__all__)
    assert set(nets.__all__) <= set(dir(nets))
    with pytest.raises(AttributeError, match="ResNet99"):
        _ = nets.ResNet99


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_what_it_is(name: str) -> None:
    entry = NETS[name]
    assert entry.summary
    assert entry.paper or name == "linear"


# What every net does


@pytest.mark.parametrize("name", IMAGE_NETS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_outputs_have_the_shape(name: str, shape: tuple[int, ...]) -> None:
    assert build(name, shape)(batch(shape)).shape == (4, 10)


@pytest.mark.parametrize("name", [name for name in NAMES if NETS[name].domain != "image generation"])
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    """But for a generator's: it stands before the net's forward, which its own tests lead through it."""
    net = tiny(name)
    outputs = net(*samples_for(name))
    (outputs * torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_see_each_other_in_eval_mode(name: str) -> None:
    net = tiny(name).eval()
    x = samples_for(name)
    alone = torch.cat([net(*(part[n : n + 1] for part in x)) for n in range(4)])
    torch.testing.assert_close(net(*x), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_eval_mode_is_deterministic(name: str) -> None:
    arguments: dict[str, Any] = {} if name in WITHOUT_DROPOUT else {"dropout": 0.5}
    net = tiny(name, **arguments)
    x = samples_for(name)
    if name not in WITHOUT_DROPOUT:
        assert not torch.equal(net(*x), net(*x))
    net.eval()
    assert torch.equal(net(*x), net(*x))


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_net_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    compiled: Any = torch.compile(net, backend="aot_eager")
    x = samples_for(name)
    torch.testing.assert_close(compiled(*x), net(*x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "mlp"])  # with convolutions and without
def test_inductor_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    compiled: Any = torch.compile(net, backend="inductor")
    x = samples_for(name)
    torch.testing.assert_close(compiled(*x), net(*x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_net_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    x = samples_for(name)
    samples = torch.export.Dim("samples", min=1, max=64)
    exported = torch.export.export(net, x, dynamic_shapes=tuple({0: samples} for _ in x)).module()
    for size in (4, 7):
        x = samples_for(name, size)
        torch.testing.assert_close(exported(*x), net(*x))


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_makes_another_net_the_same(name: str) -> None:
    net, other = tiny(name), tiny(name)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    x = samples_for(name)
    net(*x)  # moves the running statistics of a batch norm
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    assert torch.equal(net.eval()(*x), other.eval()(*x))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_near_float32(name: str) -> None:
    net = tiny(name).eval()
    x = samples_for(name)
    expected = net(*x)
    outputs = net.to(torch.bfloat16)(*(part.to(torch.bfloat16) if part.is_floating_point() else part for part in x))
    assert outputs.dtype == torch.bfloat16
    # bf16 keeps 8 bits: 0.4 % a rounding, in about ten layers.
    assert (outputs.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("name", NAMES)
def test_a_dropout_place_exists_and_acts_when_it_is_set(name: str) -> None:
    net = tiny(name, **({} if name in WITHOUT_DROPOUT else {"dropout": 0.0}))
    places = [layer for layer in net.modules() if isinstance(layer, nn.Dropout)]
    assert all(place.p == 0 for place in places)
    if name in WITHOUT_DROPOUT:
        assert not places
        return
    x = samples_for(name)
    assert torch.equal(net(*x), net(*x))
    places[-1].p = 0.5
    assert not torch.equal(net(*x), net(*x))


@pytest.mark.parametrize("name", [entry.name for entry in NETS if entry.domain == "images" and not entry.package])
def test_channels_last_gives_the_same(name: str) -> None:
    net = tiny(name).eval()
    (x,) = samples_for(name)
    expected = net(x)
    outputs = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [entry.name for entry in NETS if entry.domain == "images" and not entry.package])
def test_nets_for_images_refuse_other_shapes(name: str) -> None:
    with pytest.raises(UserError, match="takes images"):
        build(name, (64,))
