"""The training of a net by name, without data: what its module is, and batches of the shapes that it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from trainoff.errors import UserError
from trainoff.modules.nets import NETS
from trainoff.modules.recipe import Choice, Recipe
from trainoff.modules.registry import MODULES

# Where nothing is said: ImageNet's images, the tokens and lengths of GPT-2's and BERT's papers.
_IMAGE, _SERIES, _TOKENS = (3, 224, 224), (1024,), (1024,)
_SIZES: Mapping[str, tuple[tuple[int, ...], int]] = MappingProxyType(
    {
        "any": (_IMAGE, 1000),
        "images": (_IMAGE, 1000),
        "image generation": ((3, 64, 64), 1),
        "series": (_SERIES, 10),
        "tokens": (_TOKENS, 50_257),
        "token pairs": ((128,), 37_000),
    }
)
_MODULES: Mapping[str, str] = MappingProxyType(
    {"tokens": "language_model", "token pairs": "seq2seq", "image generation": "gan"}
)
# The numbers of special tokens change no size.
_SPECIAL_TOKENS = MappingProxyType({"padding_id": 0, "begin_id": 1, "end_id": 2, "mask_id": 3})


@dataclasses.dataclass(frozen=True)
class NetTraining:
    """A net with its sizes, and the kind of LightningModule that trains it.

    Args:
        net: Normalised choice.
        module: Name of a LightningModule.
        input_shape: Of one sample.
        output_size: Classes, numbers or different tokens.
    """

    net: Choice
    module: str
    input_shape: tuple[int, ...]
    output_size: int

    @classmethod
    def of(
        cls, net: Choice, module: str = "", input_shape: tuple[int, ...] | None = None, output_size: int | None = None
    ) -> NetTraining:
        """Fill in what is usual for nets of its kind: ImageNet's sizes, GPT-2's, BERT's.

        Raises:
            UserError: For an unknown module; for a net by ``class_path`` without module or sizes.
        """
        name = str(net.get("name", ""))
        if name:
            domain = NETS[name].domain
            shape, outputs = ((512,), 30_522) if name == "bert" else _SIZES[domain]
            module = module or ("masked_language_model" if name == "bert" else _MODULES.get(domain, "classifier"))
            input_shape, output_size = input_shape or shape, output_size or outputs
        if not module or input_shape is None or output_size is None:
            raise UserError(
                f"{net['class_path']} is not known here: say --module, --input-shape and --output-size too", "--net"
            )
        if MODULES[module].target is None:
            raise UserError(f"{module} cannot be built by name", "--module")
        return cls(net, module, tuple(input_shape), output_size)

    @property
    def facts(self) -> Any:
        """What the module takes from a DataModule."""
        return SimpleNamespace(
            input_shape=self.input_shape,
            output_size=self.output_size,
            num_classes=self.output_size,
            target_length=self.input_shape[0],
            pixel_range=(0.0, 1.0),
            bytes_per_token=None,
            **_SPECIAL_TOKENS,
        )

    def build(self, recipe: Recipe) -> L.LightningModule:
        """The LightningModule; its net is there."""
        made = MODULES.load({"name": self.module})(net=self.net, recipe=recipe)
        return cast(L.LightningModule, made)

    def batch(self, samples: int) -> tuple[Tensor, ...]:
        """A batch of the shapes and types that the module takes, without storage."""
        shape = (samples, *self.input_shape)
        if self.module in ("language_model", "masked_language_model", "seq2seq"):
            return _tokens(shape), _tokens(shape)
        inputs = torch.empty(shape, device="meta")
        if NETS[self.net["name"]].domain == "tokens" if "name" in self.net else False:
            inputs = _tokens(shape)
        if self.module == "regressor":
            return inputs, torch.empty(samples, self.output_size, device="meta")
        return inputs, _tokens((samples,))


def _tokens(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.long, device="meta")


def parts_of(samples: int, parts: int) -> list[int]:
    """The sizes of micro-batches: as equal as can be, the longer ones first."""
    length, longer = divmod(samples, parts)
    return [length + (part < longer) for part in range(parts)]
