"""The next token from those before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe
from trainoff.modules.token_module import TokenModule


class Perplexity(MeanMetric):
    """exp of the mean loss a token (Jelinek et al. 1977); no logit is read twice, as torchmetrics' own would."""

    def compute(self) -> Tensor:
        """Of all batches so far."""
        return super().compute().exp()


class Bits(MeanMetric):
    """The mean loss in bits, for each token or for each byte.

    Args:
        bytes_per_token: By which bits per token are divided.
    """

    def __init__(self, bytes_per_token: float = 1.0) -> None:
        super().__init__()
        self.bytes_per_token = bytes_per_token

    def compute(self) -> Tensor:
        """Of all batches so far."""
        return super().compute() / (math.log(2) * self.bytes_per_token)


class LanguageModel(TokenModule):
    """A causal net trained to predict each next token.

    Inputs (batch, length) of token numbers, targets (batch, length) the same shifted by one; the net's logits are
    (batch, length, output_size), those at a place made from the inputs up to it. Logs ``perplexity`` = exp(loss), and
    ``bits_per_token`` = loss / ln 2; where the DataModule has ``bytes_per_token``, a mapping from ``val`` and ``test``
    to the bytes of text that a token stands for on average, also ``bits_per_byte`` = bits per token / bytes per token,
    which compares between tokenizers.

    Args:
        net: See :class:`~trainoff.modules.RecipeModule`; so are ``recipe``, ``input_shape`` and ``output_size``.
        padding_id: The token number of padding, which is no target; None where there is none. Taken from the
            DataModule where it is not given.
        bytes_per_token: By split; likewise.
    """

    from_data: ClassVar[tuple[str, ...]] = ("output_size", "padding_id", "bytes_per_token")
    kind: ClassVar[str] = "a language model"
    bytes_may_be_known = True  # until the DataModule has been asked

    def __init__(
        self,
        net: str | dict | nn.Module | None = "gpt2",  # type: ignore[type-arg]
        recipe: Recipe | str | dict[str, Any] = Recipe(),  # noqa: B008 (immutable)
        input_shape: Sequence[int] | None = None,
        output_size: int | None = None,
        padding_id: int | None = None,
        bytes_per_token: dict[str, float] | None = None,
    ) -> None:
        options = {"padding_id": padding_id, "bytes_per_token": bytes_per_token}
        super().__init__(net, recipe, input_shape, output_size, **options)

    def configure_model(self) -> None:
        """Build the net; whether bytes can be counted is known from here on."""
        super().configure_model()
        known: Mapping[str, float] = self.hparams["bytes_per_token"] or {}
        plain = {str(split): float(count) for split, count in known.items()}
        self.hparams["bytes_per_token"] = plain if {"val", "test"} <= plain.keys() else None
        self.bytes_may_be_known = self.hparams["bytes_per_token"] is not None
        self.build_metrics()

    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Perplexity and bits; bits per byte unless it is known that the bytes are not."""
        metrics: dict[str, Metric | MetricCollection] = {"perplexity": Perplexity(), "bits_per_token": Bits()}
        if self.bytes_may_be_known:
            metrics["bits_per_byte"] = Bits()
        return metrics

    def build_metrics(self) -> None:
        """The metrics of both evaluations, each with its own split's bytes a token."""
        super().build_metrics()
        known: Mapping[str, float] = self.hparams.get("bytes_per_token") or {}
        for split, metrics in (("val", self.validation_metrics), ("test", self.test_metrics)):
            if split in known:
                metrics["bits_per_byte"].bytes_per_token = known[split]

    def compare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits (tokens, output_size) and targets (tokens,)."""
        self.check_batch(batch)
        inputs, targets = batch
        return self(inputs).flatten(0, 1), self.without_padding(targets).flatten()

    def check_batch(self, batch: Any) -> None:
        """Refuse what is no pair of token numbers of one shape."""
        inputs, targets = self.pair_of(batch)
        if inputs.shape != targets.shape:
            raise UserError(
                f"{self.kind} needs a target for each token; there are inputs {tuple(inputs.shape)} and targets "
                f"{tuple(targets.shape)}",
                "module",
            )

    def batch_terms(self, batch: Any) -> Tensor:
        """The number of a batch's loss terms."""
        return self.loss_terms(self.without_padding(batch[1]))

    def update_metrics(
        self, metrics: MetricCollection, batch: Any, outputs: Tensor, targets: Tensor, loss: Tensor
    ) -> None:
        """All are functions of the mean loss."""
        metrics.update(loss, self.loss_terms(targets))
