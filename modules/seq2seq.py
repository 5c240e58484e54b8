"""A sequence of tokens from another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.text import BLEUScore

from trainoff.errors import UserError
from trainoff.modules.decoding import beam_search, decoder_of, greedy_search
from trainoff.modules.recipe import Recipe
from trainoff.modules.token_module import IGNORED, TokenModule


class Seq2Seq(TokenModule):
    """A net of a source and a target, trained to predict each next token of the true target (teacher forcing).

    Sources (batch, S) of token numbers, padded at the end; targets (batch, T): ``begin_id``, the tokens, ``end_id``,
    padding. The net takes (source, targets[:, :-1]) and its logits (batch, T - 1, output_size) are compared with
    targets[:, 1:]. A net with ``encode(source) -> memory`` and ``decode_step(tokens, memory, cache) -> (logits,
    cache)`` decodes with a cache, any other without.

    Logs ``token_accuracy``, the share of target tokens whose logit is the largest, the true ones before it being
    given; and, of the sequences that the net writes by itself, ``exact_match``, the share that is the target token
    for token, and ``bleu``, the BLEU-4 of the whole split (Papineni et al. 2002), over tokens, or over the words of
    the text that the DataModule's ``decode`` makes of them.

    Args:
        net: See :class:`~trainoff.modules.RecipeModule`; so are ``recipe``, ``input_shape`` and ``output_size``.
        beams: 1 writes the most likely token at each step; more keep as many sequences side by side.
        length_penalty: α of the beam search's length normalisation (Wu et al. 2016, eq. 14).
        target_length: T, the largest length of a target with its beginning and its end: no longer ones are written.
            Taken from the DataModule where it is not given; else that of each batch.
        bleu_of: ``tokens``, or ``words``, which needs a DataModule with ``decode(ids) -> str``.
        padding_id: Taken from the DataModule where it is not given.
        begin_id: Likewise.
        end_id: Likewise.

    Raises:
        UserError: For less than one beam, or less than one token.
    """

    from_data: ClassVar[tuple[str, ...]] = ("output_size", "padding_id", "begin_id", "end_id", "target_length")
    needed: ClassVar[tuple[str, ...]] = ("padding_id", "begin_id", "end_id")
    kind: ClassVar[str] = "sequence to sequence"

    def __init__(
        self,
        net: str | dict | nn.Module | None = "transformer",  # type: ignore[type-arg]
        recipe: Recipe | str | dict[str, Any] = Recipe(),  # noqa: B008 (immutable)
        input_shape: Sequence[int] | None = None,
        output_size: int | None = None,
        beams: int = 1,
        length_penalty: float = 0.6,
        target_length: int | None = None,
        bleu_of: Literal["tokens", "words"] = "tokens",
        padding_id: int | None = None,
        begin_id: int | None = None,
        end_id: int | None = None,
    ) -> None:
        if beams < 1:
            raise UserError(f"there is at least one beam, not {beams}", "beams")
        if target_length is not None and target_length < 2:
            raise UserError(
                f"a target has a beginning and an end, so 2 tokens or more, not {target_length}", "target_length"
            )
        if bleu_of not in ("tokens", "words"):
            raise UserError(f"BLEU is of 'tokens' or of 'words', not of {bleu_of!r}", "bleu_of")
        decoding = {
            "beams": beams,
            "length_penalty": length_penalty,
            "target_length": target_length,
            "bleu_of": bleu_of,
        }
        numbers = {"padding_id": padding_id, "begin_id": begin_id, "end_id": end_id}
        super().__init__(net, recipe, input_shape, output_size, **decoding, **numbers)

    def make_metrics(self) -> dict[str, Metric | MetricCollection]:
        """Of predicted tokens, and of decoded sequences."""
        accuracy = MulticlassAccuracy(num_classes=None, average="micro", ignore_index=IGNORED)
        return {"token_accuracy": cast(Metric, accuracy), "exact_match": MeanMetric(), "bleu": BLEUScore()}

    def compare(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits (tokens, output_size) and the true next tokens (tokens,)."""
        self.check_batch(batch)
        source, targets = batch
        logits = self(source, targets[:, :-1])
        return logits.flatten(0, 1), self.without_padding(targets[:, 1:]).flatten()

    def check_batch(self, batch: Any) -> None:
        """Refuse what is no pair of token numbers."""
        self.pair_of(batch)

    def batch_terms(self, batch: Any) -> Tensor:
        """The number of a batch's loss terms."""
        return self.loss_terms(self.without_padding(batch[1][:, 1:]))

    def decode(self, source: Tensor, max_length: int) -> Tensor:
        """The sequences that the net writes: (batch, at most max_length), without the beginning, padded after the end.

        Args:
            source: (batch, length).
            max_length: The largest number of tokens, the end among them.
        """
        facts = self.hparams
        arguments = (
            decoder_of(cast(nn.Module, self.net)),
            source,
            facts["begin_id"],
            facts["end_id"],
            facts["padding_id"],
            max_length,
        )
        if facts["beams"] == 1:
            return greedy_search(*arguments)
        return beam_search(*arguments, facts["beams"], facts["length_penalty"])[0]

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The sequences that the net writes; the batch is sources, or sources and targets.

        Raises:
            UserError: Where neither ``target_length`` nor targets say how long they may be.
        """
        source, targets = batch[:2] if isinstance(batch, (tuple, list)) else (batch, None)
        return self.decode(self.tokens_of(source), self._longest(targets))

    def update_metrics(
        self, metrics: MetricCollection, batch: Any, outputs: Tensor, targets: Tensor, loss: Tensor
    ) -> None:
        """Decode, and compare what came of it."""
        source, true = batch[0], batch[1][:, 1:]
        metrics["token_accuracy"].update(outputs, targets)
        written = self.decode(source, self._longest(batch[1]))
        metrics["exact_match"].update(self.exact_matches(written, true).float())
        metrics["bleu"].update(self._texts(written), [[text] for text in self._texts(true)])

    def _longest(self, targets: Tensor | None) -> int:
        given = self.hparams["target_length"]
        if given is None and targets is None:
            raise UserError("sources alone do not say how long a target may be; give it: target_length=...", "module")
        return (cast(Tensor, targets).shape[1] if given is None else int(given)) - 1

    def exact_matches(self, written: Tensor, true: Tensor) -> Tensor:
        """Which sequences are the same up to their ends, (batch,); both are padded after the end."""
        width = max(written.shape[1], true.shape[1])
        padding = self.hparams["padding_id"]
        one, other = (nn.functional.pad(t, (0, width - t.shape[1]), value=padding) for t in (written, true))
        return (one == other).all(1)

    def _texts(self, sequences: Tensor) -> list[str]:
        """Each sequence's tokens up to its end, apart from one another by spaces."""
        rows = [self._before_end(row) for row in sequences.tolist()]
        if self.hparams["bleu_of"] == "tokens":
            return [" ".join(map(str, row)) for row in rows]
        decode = getattr(getattr(self.trainer, "datamodule", None), "decode", None)
        if decode is None:
            raise UserError("BLEU of words needs a DataModule with decode(ids) -> str", "bleu_of")
        return [decode(row) for row in rows]

    def _before_end(self, row: list[int]) -> list[int]:
        return row[: row.index(self.hparams["end_id"])] if self.hparams["end_id"] in row else row
