"""Pairs of texts for sequence to sequence, from a file of one's own or from a translation set of the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.token_sets import HUB_TRANSLATION, PAIRS_FILE
from trainoff.datamodules.hub import HubError, load_hub_dataset, own_folders
from trainoff.datamodules.pairs_datamodule import Pair, PairsDataModule, split_pairs
from trainoff.datamodules.text import read_text
from trainoff.datamodules.vocabularies import Tokens
from trainoff.datamodules.whole_files import write_whole
from trainoff.errors import UserError, closest

_OFFICIAL = {"train": "train", "val": "validation", "test": "test"}


class PairsFile(PairsDataModule):
    """Pairs from a file of tab-separated values: on each line a source, a tab, and its target.

    Args:
        path: The file, UTF-8; empty lines are passed over.
        tokens: ``characters``, ``bytes``, ``words`` or ``bpe``.
        length: The most tokens of a source and of a target; longer pairs are left out.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep.
        split_seed: The seed of the split.
        val_fraction: The share of the pairs that validates.
        test_fraction: The share of the pairs that tests.
        batch_size: See :class:`PairsDataModule`.
        microbatches: Parts of each training batch.

    Raises:
        UserError: Later, where the file is missing or empty, or a line is no pair, which is named by its number.
    """

    facts: ClassVar[DataModuleEntry] = PAIRS_FILE

    def __init__(
        self,
        path: str,
        tokens: Tokens = "characters",
        length: int = 64,
        vocabulary: int = 1000,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int | Literal["full"] = 64,
        microbatches: int = 1,
    ) -> None:
        super().__init__(tokens, length, vocabulary, batch_size, microbatches)
        self.path, self.split_arguments = path, (split_seed, val_fraction, test_fraction)

    def load_pairs(self) -> Mapping[str, Sequence[Pair]]:
        """The file's pairs, cut by the seed."""
        path = Path(self.path).expanduser()
        pairs = read_pairs(path)
        self.licence, self.citation, self.size_bytes = "the file's own", "", path.stat().st_size
        return split_pairs(pairs, *self.split_arguments)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file of tab-separated values.

    Raises:
        UserError: Naming the file, and the line that is no pair.
    """
    pairs = []
    # at "\n" alone: str.splitlines knows ten more ends of a line
    for number, given in enumerate(read_text(path).split("\n"), 1):
        line = given.rstrip("\r")
        if not line:
            continue
        source, *rest = line.split("\t")
        if len(rest) != 1 or not source or not rest[0]:
            raise UserError(f"has {len(rest) + 1} columns; a line is a source, a tab and a target", f"{path}:{number}")
        pairs.append((source, rest[0]))
    if not pairs:
        raise UserError("holds no pairs; a line is a source, a tab and a target", str(path))
    return pairs


class HubTranslation(PairsDataModule):
    """A translation set of the hub: a column with a text for each language.

    The splits ``train``, ``validation`` and ``test`` are the official ones; where one of the last two is missing, all
    three are cut from the training pairs. :meth:`prepare_data` gets the pairs once, from the hub or from the cache of
    ``datasets``, and keeps them as tab-separated files in ``$TRAINOFF_DATA/hub_translation`` or
    ``~/.cache/trainoff/hub_translation``; tabs and line ends within a text become spaces.

    Args:
        dataset: Owner and name, such as ``Helsinki-NLP/opus_books``.
        config: The set's configuration, such as ``en-fr``.
        source: The source's language, a key of the column.
        target: The target's.
        column: The column of translations.
        samples: Keep only the first so many pairs of each split; None for all.
        tokens: ``characters``, ``bytes``, ``words`` or ``bpe``.
        length: The most tokens of a source and of a target; longer pairs are left out.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep.
        split_seed: The seed of the split, where there are no official ones.
        val_fraction: The share that validates, likewise.
        test_fraction: The share that tests, likewise.
        batch_size: See :class:`PairsDataModule`.
        microbatches: Parts of each training batch.

    Raises:
        UserError: Where the hub and the cache have no such set, or it has no such column or language.
    """

    facts: ClassVar[DataModuleEntry] = HUB_TRANSLATION

    def __init__(
        self,
        dataset: str,
        config: str | None = None,
        source: str = "en",
        target: str = "fr",
        column: str = "translation",
        samples: int | None = None,
        tokens: Tokens = "bpe",
        length: int = 64,
        vocabulary: int = 8000,
        split_seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int | Literal["full"] = 64,
        microbatches: int = 1,
    ) -> None:
        super().__init__(tokens, length, vocabulary, batch_size, microbatches)
        self.dataset, self.config, self.column, self.languages = dataset, config, column, (source, target)
        self.samples, self.split_arguments = samples, (split_seed, val_fraction, test_fraction)

    def prepare_data(self) -> None:
        """Get the pairs from the hub where they are not kept yet; :class:`UserError` where that is impossible."""
        if self._kept() is not None:
            return
        try:
            dataset = load_hub_dataset(self.dataset, self.config)
        except HubError as error:
            message = f"no pairs of {self.dataset} were found: {error}; pairs of your own come from `pairs_file`"
            raise UserError(message, self.facts.name) from error
        folder = self._folders()[0]
        splits = {name: dataset[theirs] for name, theirs in _OFFICIAL.items() if theirs in dataset}
        if "train" not in splits:
            raise UserError(f"has no split 'train', only {', '.join(dataset)}", self.dataset)
        for name in splits:
            self._write(folder / f"{name}.tsv", self._pairs_of(splits[name]))
        write_whole(folder / "complete", lambda file: file.write(b""))  # last, so that it stands for all

    def load_pairs(self) -> Mapping[str, Sequence[Pair]]:
        """The pairs as they are kept."""
        folder = self._kept()
        if folder is None:
            raise UserError(f"is not in {self._folders()[0].parent}; call prepare_data() first", self.dataset)
        pairs = {name: read_pairs(path) for name in _OFFICIAL if (path := folder / f"{name}.tsv").exists()}
        if len(pairs) < len(_OFFICIAL):
            pairs = split_pairs(pairs["train"][: self.samples], *self.split_arguments)
        return {name: rows[: self.samples] for name, rows in pairs.items()}

    def _pairs_of(self, split: Any) -> list[Pair]:
        if self.column not in split.column_names:
            known = split.column_names
            raise UserError(f"has no column '{self.column}'{closest(self.column, known)}", self.dataset)
        rows = split[self.column]
        first = rows[0] if len(rows) else {}
        for language in self.languages:
            if language not in first:
                raise UserError(f"has no language '{language}', only {', '.join(first)}", self.dataset)
        pairs = (tuple(" ".join(str(row[language]).split()) for language in self.languages) for row in rows)
        return [(source, target) for source, target in pairs if source and target]

    def _write(self, path: Path, pairs: Sequence[Pair]) -> None:
        content = "".join(f"{source}\t{target}\n" for source, target in pairs).encode()
        write_whole(path, lambda file: file.write(content))

    def _folders(self) -> list[Path]:
        made_with = json.dumps([self.config, self.column, self.languages])
        name = f"{self.dataset.replace('/', '___')}-{hashlib.sha256(made_with.encode()).hexdigest()[:8]}"
        return [folder / name for folder in own_folders("hub_translation")]

    def _kept(self) -> Path | None:
        return next((folder for folder in self._folders() if (folder / "complete").exists()), None)
