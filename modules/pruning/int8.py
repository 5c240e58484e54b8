"""Int8 dynamic quantisation: after training, the weights of affine layers have eight bits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, cast

import lightning as L
import torch
from torch import nn

from trainoff.errors import UserError
from trainoff.modules.pruning.base import Pruning


class Int8(Pruning):
    """Trains as ever, and evaluates with int8 weights in every ``nn.Linear`` (torch's dynamic quantisation).

    In ``trainer.validate``, ``test`` and ``predict`` the affine layers are replaced by torch's, which hold int8
    weights with one scale a layer, and quantise each batch of activations to eight bits by its own range; afterwards
    they are the float layers again. Training, its validation and checkpoints know nothing of it. torch computes it on
    a CPU.

    Args:
        exclude: Shell patterns of the names of weights that stay float.

    Raises:
        UserError: On an accelerator, for a module without affine layers, and where torch has no quantisation any more.
    """

    needs_total: ClassVar[bool] = False
    in_training: ClassVar[bool] = False

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        super().__init__(exclude)
        self._replaced: list[tuple[nn.Module, str, nn.Module]] = []

    def _forget(self) -> None:
        super()._forget()
        self.is_done = True  # there is nothing to wait for

    def weights_of(self, module: L.LightningModule) -> dict[str, nn.Parameter]:
        """Those of affine layers."""
        return {f"{name}.weight": cast(nn.Parameter, layer.weight) for _, name, layer in self._layers(module)}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look for affine layers.

        Raises:
            UserError: Where there is none.
        """
        if not self._layers(pl_module):
            raise UserError(f"{type(pl_module).__name__} has no nn.Linear that could be quantised", "pruning")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Look at the device.

        Raises:
            UserError: For another one than a CPU.
        """
        super().setup(trainer, pl_module, stage)
        device = trainer.strategy.root_device.type
        if device != "cpu":
            raise UserError(
                f"torch quantises dynamically on a CPU only, and this Trainer's device is {device}; "
                "give it accelerator='cpu'",
                "pruning",
            )

    def convert(self, module: nn.Module) -> None:
        """Put int8 layers in place of the float ones."""
        converted: dict[int, nn.Module] = {}
        for parent, name, layer in self._layers(module):
            if id(layer) not in converted:
                converted[id(layer)] = quantised(layer)
            attribute = name.rpartition(".")[2]
            self._replaced.append((parent, attribute, layer))
            setattr(parent, attribute, converted[id(layer)])

    def restore(self, module: nn.Module) -> None:
        """Put the float layers back."""
        for parent, attribute, layer in self._replaced:
            setattr(parent, attribute, layer)
        self._replaced = []

    def _layers(self, module: nn.Module) -> list[tuple[nn.Module, str, nn.Linear]]:
        """Parent, full name and layer; subclasses of ``nn.Linear`` may do something else, and stay."""
        return [
            (parent, f"{prefix}.{name}".lstrip("."), layer)
            for prefix, parent in module.named_modules(remove_duplicate=False)
            for name, layer in parent._modules.items()  # a layer that stands twice has two names
            if type(layer) is nn.Linear
            and not any(fnmatchcase(f"{prefix}.{name}.weight".lstrip("."), pattern) for pattern in self.exclude)
        ]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Convert, outside of fit."""
        if trainer.state.fn != "fit":
            self.convert(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore."""
        self.restore(pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Convert."""
        self.convert(pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore."""
        self.restore(pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Convert."""
        self.convert(pl_module)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore."""
        self.restore(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restore, whatever happened in between."""
        self.restore(pl_module)


def quantised(layer: nn.Linear) -> nn.Module:
    """The layer with int8 weights, as torch's ``quantize_dynamic`` makes it.

    Raises:
        UserError: Where torch has it no more.
    """
    quantize: Any = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if quantize is None:
        raise UserError(f"torch {torch.__version__} has no quantize_dynamic any more", "pruning")
    with warnings.catch_warnings():
        # Deprecated in favour of torchao, and there is no other int8 product of matrices for a CPU in torch itself.
        warnings.simplefilter("ignore")
        made: nn.Module = quantize(nn.Sequential(layer).eval(), {nn.Linear}, dtype=torch.qint8)[0]
    return made
