"""Hidden tokens from those around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from trainoff.errors import UserError
from trainoff.modules.recipe import Recipe
from trainoff.modules.token_masking import mask_tokens, places_to_guess
from trainoff.modules.token_module import IGNORED, TokenModule
from trainoff.seeds import derive_seed

_SPECIALS = ("padding_id", "begin_id", "end_id")


class MaskedLanguageModel(TokenModule):
    """A net trained to guess tokens that are hidden from it (Devlin et al. 2019, section 3.1).

    The batch is tokens (batch, length), or a tuple that begins with them; the net's logits are (batch, length,
    output_size). Of each sample's tokens 15 % are to be guessed: 80 % of them are seen as ``mask_id``, 10 % as any
    other token, 10 % as they are (:func:`trainoff.modules.token_masking.mask_tokens`). The loss is the mean over
    these places alone. Logs ``accuracy``: the share of these places whose largest logit is the hidden token's.

    In training the places depend on the global seed at the start of the fit, the epoch and the sample; a checkpoint
    keeps that seed. In validation and test they depend on the sample alone.

    Args:
        net: See :class:`~trainoff.modules.RecipeModule`; so are ``recipe``, ``input_shape`` and ``output_size``.
        share: Of the tokens that are to be guessed, in (0, 1].
        mask_id: The token number that stands for a hidden token; taken from the DataModule where it is not given.
        padding_id: Likewise, of padding, which is never to be guessed; None where there is none.
        begin_id: Likewise, of a sequence's first token; None where there is none.
        end_id: Likewise, of a sequence's last token; None where there is none.

    Raises:
        UserError: For a share outside (0, 1].
    """

    from_data: ClassVar[tuple[str, ...]] = ("output_size", "mask_id", *_SPECIALS)
    needed: ClassVar[tuple[str, ...]] = ("mask_id", "output_size")
    kind: ClassVar[str] = "a masked language model"

    def __init__(
        self,
        net: str | dict | nn.Module | None = "bert",  # type: ignore[type-arg]
        recipe: Recipe | str | dict[str, Any] = Recipe(),  # noqa: B008 (immutable)
        input_shape: Sequence[int] | None = None,
        output_size: int | None = None,
        share: float = 0.15,
        mask_id: int | None = None,
        padding_id: int | None = None,
        begin_id: int | None = None,
        end_id: int | None = None,
    ) -> None:
        if not 0 < share <= 1:
            raise UserError(f"the share of tokens to guess lies in (0, 1], not {share}", "share")
        options = {"mask_id": mask_id, "padding_id": padding_id, "begin_id": begin_id, "end_id": end_id}
        super().__init__(net, recipe, input_shape, output_size, share=share, **options)
        self.mask_seed = 0

    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Accuracy at the hidden places."""
        accuracy = MulticlassAccuracy(num_classes=None, average="micro", ignore_index=IGNORED)
        return {"accuracy": cast(Metric, accuracy)}

    def setup(self, stage: str) -> None:
        """Take the seed of the training's places, which a checkpoint that is resumed replaces."""
        if stage == "fit":
            self.mask_seed = derive_seed(torch.initial_seed(), "masks")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the seed."""
        checkpoint["mask_seed"] = self.mask_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the seed of the training that is resumed."""
        self.mask_seed = checkpoint["mask_seed"]

    def compare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits (places, output_size) and the hidden tokens (places,), those that are not to be guessed ignored."""
        tokens = self._first(batch)
        inputs, chosen = self.hide(tokens)
        return self(inputs).flatten(0, 1), tokens.masked_fill(~chosen, IGNORED).flatten()

    def check_batch(self, batch: Any) -> None:
        """Refuse what does not begin with token numbers."""
        self._first(batch)

    def hide(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs, and which places are to be guessed, (batch, length); by epoch in training."""
        facts = self.hparams
        seed = derive_seed(self.mask_seed, "epoch", self.current_epoch) if self.training else 0
        numbers = (facts["mask_id"], facts["output_size"], self._specials(), facts["padding_id"])
        return mask_tokens(tokens, seed, facts["share"], *numbers)

    def batch_terms(self, batch: Any) -> Tensor:
        """The number of a batch's loss terms."""
        return places_to_guess(self._first(batch), self.hparams["share"], self._specials()).sum()

    def _specials(self) -> set[int]:
        return {self.hparams[name] for name in ("mask_id", *_SPECIALS) if self.hparams[name] is not None}

    def _first(self, batch: Any) -> Tensor:
        return self.tokens_of(batch[0] if isinstance(batch, (tuple, list)) else batch)
