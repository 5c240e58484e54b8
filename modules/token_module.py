"""What the LightningModules of tokens share: the loss over tokens, padding left out."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from trainoff.errors import UserError
from trainoff.modules.supervised_module import SupervisedModule
from trainoff.registry import arguments_of

IGNORED = -100  # in the place of a target: no term of the loss; torch's own default


class TokenModule(SupervisedModule):
    """A net with one logit a token of the vocabulary at each place, trained on the cross-entropy of tokens.

    The loss is the mean over the tokens of a batch, however long its sequences are; padding is no token. A net given
    by name is told ``padding_id`` where it has an argument of that name.
    """

    from_data: ClassVar[tuple[str, ...]] = ("output_size", "padding_id")
    needed: ClassVar[tuple[str, ...]] = ()  # of from_data, what it cannot do without
    kind: ClassVar[str]  # for messages

    def make_loss(self) -> nn.Module:
        """Cross-entropy over the tokens."""
        return nn.CrossEntropyLoss(ignore_index=IGNORED)

    def known_arguments(self) -> dict[str, Any]:
        """Padding's token number."""
        return {"padding_id": self.hparams.get("padding_id")}

    def configure_model(self) -> None:
        """Build a net given by name; token numbers come from the DataModule.

        Raises:
            UserError: Where a token number that it needs is not to be had, or the net was built for other padding.
        """
        was_built, padding = self.net is not None, self.hparams.get("padding_id")
        super().configure_model()
        self._refuse_padding(was_built, padding)
        missing = [name for name in self.needed if self.hparams.get(name) is None]
        if missing:
            datamodule = None if self._trainer is None else getattr(self.trainer, "datamodule", None)
            source = "there is no DataModule" if datamodule is None else f"{type(datamodule).__name__} has none"
            raise UserError(f"{self.kind} needs {missing[0]}, and {source}; give it: {missing[0]}=...", "module")

    def _refuse_padding(self, was_built: bool, padding: int | None) -> None:
        """A net that was built before padding was known would attend to it, and its checkpoint would not."""
        present = self.hparams.get("padding_id")
        is_told = self.net_choice is not None and "padding_id" in arguments_of(self.net_choice)
        if was_built and self.net_choice is not None and not is_told and present != padding:
            raise UserError(
                f"the net was built before the data said that they are padded with {present}; give padding_id beside "
                "input_shape and output_size, or none of the three",
                "module",
            )

    @abstractmethod
    def check_batch(self, batch: Any) -> None:
        """Refuse a batch that is not what the module reads; looks at shapes and types alone.

        Raises:
            UserError: Saying what it reads.
        """

    def tokens_of(self, values: Any) -> Tensor:
        """The values as they are.

        Raises:
            UserError: Where they are no token numbers (batch, length).
        """
        if not isinstance(values, Tensor) or values.is_floating_point() or values.ndim != 2:
            given = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            given = given.removeprefix("torch.")
            raise UserError(f"{self.kind} needs token numbers (batch, length), not {given}", "module")
        return values

    def pair_of(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The batch's two tensors of token numbers.

        Raises:
            UserError: Where it has others.
        """
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise UserError(f"{self.kind} needs batches of two tensors of token numbers", "module")
        return self.tokens_of(batch[0]), self.tokens_of(batch[1])

    def without_padding(self, targets: Tensor) -> Tensor:
        """The targets, padding as :data:`IGNORED`."""
        padding = self.hparams.get("padding_id")
        return targets if padding is None else targets.masked_fill(targets == padding, IGNORED)

    def loss_terms(self, targets: Tensor) -> Tensor:
        """The number of tokens; it stays on the device."""
        return (targets != IGNORED).sum()
