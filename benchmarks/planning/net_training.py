"""The training of a net by name, without data: what its module is, and batches of the shapes that it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from trainoff.errors import UserError, closest
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
        if module not in MODULES:
            raise UserError(f"no LightningModule is called '{module}'{closest(module, MODULES.names())}", "--module")
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
        """The LightningModule; its net is built when a Trainer starts."""
        return cast(L.LightningModule, MODULES.load({"name": self.module})(net=self.net, recipe=recipe))

    def batch(self, samples: int) -> tuple[Tensor, ...]:
        """A batch of the shapes and types that the module takes, without storage."""
        shape = (samples, *self.input_shape)
        if self.module in ("language_model", "masked_language_model", "seq2seq"):
            return _tokens(shape), _tokens(shape)
        reads_tokens = "name" in self.net and "token" in NETS[self.net["name"]].domain
        inputs = _tokens(shape) if reads_tokens else torch.empty(shape, device="meta")
        if self.module == "regressor":
            return inputs, torch.empty(samples, self.output_size, device="meta")
        return inputs, _tokens((samples,))

    def random_batch(self, samples: int) -> tuple[Tensor, ...]:
        """The same, filled with random numbers."""
        return tuple(
            torch.randn(tensor.shape)
            if tensor.is_floating_point()
            else torch.randint(self.output_size, tensor.shape, dtype=tensor.dtype)
            for tensor in self.batch(samples)
        )


class RandomData(L.LightningDataModule):
    """A few steps of random numbers, with a training's facts.

    Args:
        training: Whose.
        samples: Of each micro-batch of a step.
        steps: In an epoch.
    """

    def __init__(self, training: NetTraining, samples: Sequence[int], steps: int) -> None:
        super().__init__()
        self.loader = _RandomBatches(training, samples, steps)
        self.batch_size = self.microbatches = 1  # a recipe may set them
        for name, value in vars(training.facts).items():
            setattr(self, name, value)

    def train_dataloader(self) -> _RandomBatches:
        """The batches."""
        return self.loader


@dataclasses.dataclass(frozen=True)
class _RandomBatches:
    training: NetTraining
    samples: Sequence[int]
    steps: int

    def __len__(self) -> int:
        return self.steps * len(self.samples)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for _ in range(self.steps):
            for samples in self.samples:
                yield self.training.random_batch(samples)


def _tokens(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.long, device="meta")


def parts_of(samples: int, parts: int) -> list[int]:
    """The sizes of micro-batches: as equal as can be, the longer ones first."""
    length, longer = divmod(samples, parts)
    return [length + (part < longer) for part in range(parts)]
