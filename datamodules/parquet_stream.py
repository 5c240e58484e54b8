"""Sets that are larger than memory: Parquet and Arrow files, memory-mapped through ``datasets``, read in blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from trainoff.datamodules.block_stream import BlockOrder, Blocks, StreamBatches
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.table_sets import PARQUET_STREAM
from trainoff.datamodules.in_memory import InMemoryDataModule
from trainoff.datamodules.mapped_files import add_content, find_files, open_mapped
from trainoff.datamodules.mapped_rows import MappedRows
from trainoff.datamodules.splits import random_words
from trainoff.datamodules.token_datamodule import TokenDataModule
from trainoff.errors import UserError
from trainoff.seeds import derive_seed


class ParquetStream(L.LightningDataModule):
    """Parquet or Arrow files by path, folder or pattern, of any size: rows are memory-mapped, and read block by block.

    Arrow files (``.arrow``, of the stream or the file format), such as ``Dataset.save_to_disk`` writes into a folder,
    are mapped as they lie. ``datasets`` writes Parquet files once as Arrow into its cache (``$HF_DATASETS_CACHE``;
    about as large as the numbers are), and the copy is mapped. The system keeps what fits, and a process holds one
    window of rows. The order of an epoch is random in blocks, and in rows within a window of blocks; it depends on the
    seed and the epoch alone, so that a training resumed within an epoch gets the batches that it would have had.

    Batches are inputs and targets: float32 ``(batch, features)`` of ``inputs`` columns, standardised by the training
    rows, or of one column of lists, and targets, int64 classes ``(batch,)`` or float32 ``(batch, 1)``; or, of a column
    of ``tokens`` in lists of equal length, int64 ``(batch, length)`` and the same moved on by one.

    Args:
        path: A file, a folder or a pattern, such as ``data/train-*.parquet``; ``.arrow`` files are Arrow, others
            Parquet.
        inputs: Columns of numbers, or one column of lists of numbers.
        target: The column of classes (whole numbers from 0) or numbers.
        tokens: A column of lists of token numbers, in place of both.
        num_classes: Of the target; None for a regression. With ``tokens`` the number of different tokens.
        mask_id: The token number that stands for a hidden token, below ``num_classes``, for masked language models.
        val_path: Files that validate; a share of the blocks of ``path`` by default.
        test_path: Files that test; likewise.
        val_fraction: The share of blocks that validates, where there is no ``val_path``.
        test_fraction: The share that tests, where there is no ``test_path``.
        split_seed: Which blocks.
        block: Rows that are read together.
        window: Blocks that are mixed with one another: ``block * window`` rows are in memory.
        batch_size: Rows in a global training batch, over all devices; may be set later.
        microbatches: Parts of each training batch.

    Raises:
        UserError: For columns that are neither ``inputs`` and ``target`` nor ``tokens``; later, naming the file or the
            column, for one that is missing or corrupt, and for too few blocks.
    """

    facts: ClassVar[DataModuleEntry] = PARQUET_STREAM

    def __init__(
        self,
        path: str,
        inputs: Sequence[str] = (),
        target: str | None = None,
        tokens: str | None = None,
        num_classes: int | None = None,
        mask_id: int | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        block: int = 1024,
        window: int = 8,
        batch_size: int | Literal["full"] = 128,
        microbatches: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if (tokens is None) == (target is None or not inputs):
            raise UserError("give inputs and target, or tokens alone", "tokens" if tokens else "inputs")
        if tokens is not None and num_classes is None:
            raise UserError("a column of tokens needs the number of different tokens", "num_classes")
        if mask_id is not None and (tokens is None or not 0 <= mask_id < (num_classes or 0)):
            raise UserError(f"{mask_id} is no number of a token: of tokens, from 0 and below num_classes", "mask_id")
        for name, number in (("block", block), ("window", window)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise UserError(f"{number!r} is not a number of rows or blocks; it must be at least 1", name)
        self.paths = {"train": path, "val": val_path, "test": test_path}
        self.columns = (tuple(inputs), target, tokens)
        self.fractions, self.split_seed = (val_fraction, test_fraction), split_seed
        self.block, self.window = block, window
        self.batch_size, self.microbatches = batch_size, microbatches
        self.num_classes = None if tokens else num_classes
        self.task = "language modelling" if tokens else "classification" if num_classes else "regression"
        self.output_size, self.mask_id = num_classes or 1, mask_id
        self.evaluation_batch = (TokenDataModule if tokens else InMemoryDataModule).evaluation_batch
        self.input_shape: tuple[int, ...] = ()
        self.licence, self.citation, self.size_bytes = self.facts.licence, self.facts.citation, 0
        self.sources: dict[str, MappedRows] = {}
        self.blocks: dict[str, Blocks] = {}
        self._order_seed = 0

    def prepare_data(self) -> None:
        """Let ``datasets`` write its Arrow copy of Parquet files, once."""
        for path in self.paths.values():
            if path is not None:
                open_mapped(find_files(path))

    def setup(self, stage: str | None = None) -> None:
        """Map the files and say which blocks are whose; later calls do nothing."""
        if self.blocks:
            return
        self._order_seed = derive_seed(torch.initial_seed(), "order")
        classes = self.output_size if self.columns[2] is not None else self.num_classes
        opened: dict[str, MappedRows] = {}
        for name, path in self.paths.items():
            if path is not None:
                opened[name] = MappedRows(open_mapped(find_files(path)), *self.columns, classes, path)
        blocks = self._cut(opened)
        self.sources = {name: opened.get(name, opened["train"]) for name in self.paths}
        self.input_shape = opened["train"].input_shape
        self.size_bytes = sum(file.stat().st_size for p in self.paths.values() if p for file in find_files(p))
        if self.columns[2] is None and not self.sources["train"].is_list:
            statistics = opened["train"].statistics(blocks["train"])
            for source in self.sources.values():
                source.standardise(*statistics)
        self.blocks = blocks

    def _cut(self, opened: dict[str, MappedRows]) -> dict[str, Blocks]:
        """The blocks of each split, by a seed alone."""
        left = Blocks.of(len(opened["train"]), self.block)
        order = np.argsort(random_words(len(left.starts), self.split_seed, "split blocks"), kind="stable")
        cut, used = {}, 0
        for name, fraction in zip(("val", "test"), self.fractions, strict=True):
            if name in opened:
                cut[name] = Blocks.of(len(opened[name]), self.block)
                continue
            count = round(fraction * len(order))
            cut[name] = left.chosen(np.sort(order[used : used + count]))
            used += count
        cut["train"] = left.chosen(np.sort(order[used:]))
        for name, blocks in cut.items():
            if not len(blocks.starts):
                raise UserError(
                    f"{len(order)} blocks of {self.block} rows leave none for {name}; lower block, or give "
                    f"{name}_path",
                    "block",
                )
        return cut

    def train_dataloader(self) -> StreamBatches:
        """The training rows in a new order each epoch."""
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        options = {"shuffle": shuffle, "seed": self._order_seed, "microbatches": self.microbatches}
        return self._batches("train", self.blocks["train"], self.batch_size, equal_shares=True, **options)

    def train_eval_dataloader(self) -> StreamBatches:
        """Training rows as many as there are blocks of test, in a fixed order."""
        count = min(len(self.blocks["test"].starts), len(self.blocks["train"].starts))
        return self._batches("train", self.blocks["train"].chosen(np.arange(count)), self.evaluation_batch)

    def val_dataloader(self) -> StreamBatches:
        """The validation rows as they lie."""
        return self._batches("val", self.blocks["val"], self.evaluation_batch)

    def test_dataloader(self) -> StreamBatches:
        """The test rows as they lie."""
        return self._batches("test", self.blocks["test"], self.evaluation_batch)

    def _batches(self, name: str, blocks: Blocks, size: int | Literal["full"], **options: Any) -> StreamBatches:
        device = None
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            if ranks := self.trainer.distributed_sampler_kwargs:
                options |= {"rank": ranks["rank"], "world_size": ranks["num_replicas"]}
        return StreamBatches(self.sources[name], blocks, size, self.window, device, **options)

    def split(self, name: str) -> tuple[Tensor, ...]:
        """All rows of a split, in memory: for small ones."""
        self.setup()
        whole = StreamBatches(self.sources[name], self.blocks[name], "full", self.window)
        return next(iter(whole))

    def digest(self) -> str:
        """SHA-256 of how the rows are read, and of the files: of each Arrow file, of each Parquet file's footer."""
        state = hashlib.sha256(repr((self.columns, self.block, self.fractions, self.split_seed)).encode())
        for path in self.paths.values():
            for file in find_files(path) if path is not None else ():
                add_content(state, file)
        return state.hexdigest()

    def order_digest(self) -> str:
        """SHA-256 of the order of the first training epoch: of blocks, and the seed of rows."""
        order = BlockOrder(self.blocks["train"], self.window, self._order_seed, 0)
        return hashlib.sha256(order.blocks.starts.tobytes() + str(self._order_seed).encode()).hexdigest()
