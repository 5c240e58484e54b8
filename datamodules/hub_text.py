"""Language modelling on texts of the hub: any data set with a column of text, WikiText-2, tiny Shakespeare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.datamodules.facts.token_sets import HUB_TEXT, TINY_SHAKESPEARE, WIKITEXT2
from trainoff.datamodules.hub import HubError, check_column, load_hub_dataset, own_folders
from trainoff.datamodules.text import check_shares, cut, read_text
from trainoff.datamodules.token_datamodule import TokenDataModule
from trainoff.datamodules.vocabularies import Tokens
from trainoff.datamodules.whole_files import write_whole
from trainoff.errors import UserError

_SPLIT_NAMES = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}


class HubText(TokenDataModule):
    """A data set of the hub with a column of text; its rows follow one another.

    The splits ``train``, ``validation`` and ``test`` are the official ones; where one of the last two is missing, all
    is cut from the training text, as :class:`trainoff.datamodules.text.Text` does. :meth:`prepare_data` gets the texts
    once, from the hub or from the cache of ``datasets``, and keeps them as text files in
    ``$TRAINOFF_DATA/hub_text`` or ``~/.cache/trainoff/hub_text``.

    Args:
        dataset: Owner and name, such as ``Salesforce/wikitext``.
        config: The set's configuration, where it has several.
        column: The column of text.
        folder: A folder of ``train.txt``, ``val.txt`` and ``test.txt`` to read in place of the hub.
        tokens: ``characters``, ``bytes``, ``words`` or ``bpe``.
        length: Tokens in a window.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep.
        val_fraction: The share that validates where there is no official split.
        test_fraction: The share that tests, likewise.
        batch_size: See :class:`TokenDataModule`.
        microbatches: Parts of each training batch.

    Raises:
        UserError: Where the hub and the cache have no such set, or it has no such column.
    """

    facts: ClassVar[DataModuleEntry] = HUB_TEXT
    separator: ClassVar[str] = "\n"  # between the rows
    revision: ClassVar[str | None] = None

    def __init__(
        self,
        dataset: str,
        config: str | None = None,
        column: str = "text",
        folder: str | None = None,
        tokens: Tokens = "bytes",
        length: int = 128,
        vocabulary: int = 1000,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int | Literal["full"] = 32,
        microbatches: int = 1,
    ) -> None:
        super().__init__(tokens, length, vocabulary, batch_size, microbatches)
        check_shares(val_fraction, test_fraction)
        self.dataset, self.config, self.column, self.folder = dataset, config, column, folder
        self.shares = (val_fraction, test_fraction)

    def prepare_data(self) -> None:
        """Get the texts from the hub where they are not kept yet; :class:`UserError` where that is impossible."""
        if self.folder is not None or self._kept() is not None:
            return
        try:
            dataset = load_hub_dataset(self.dataset, self.config, self.revision)
        except HubError as error:
            raise self._missing(f"{error}; ") from error
        self._write(self._folders()[0], self._texts_of(dataset))

    def load_texts(self) -> Mapping[str, str]:
        """The texts as they are kept."""
        folder = self._kept() if self.folder is None else Path(self.folder).expanduser()
        if folder is None:
            raise self._missing("call prepare_data() first, or: ")
        return {name: read_text(folder / f"{name}.txt", self.tokens == "bytes") for name in _SPLIT_NAMES}

    def _texts_of(self, dataset: Mapping[str, Any]) -> dict[str, str]:
        texts = {}
        for name, theirs in _SPLIT_NAMES.items():
            if found := next((dataset[split] for split in theirs if split in dataset), None):
                check_column(found.features, self.column, f"{self.dataset}, split {name}")
                texts[name] = self.separator.join(found[self.column])
        if "train" not in texts:
            raise UserError(f"has no split 'train', only {', '.join(dataset)}", self.dataset)
        return texts if len(texts) == len(_SPLIT_NAMES) else cut(texts["train"], *self.shares)

    def _folders(self) -> list[Path]:
        """Where the texts may be kept; what they were made with is in the name."""
        made_with = json.dumps([self.config, self.column, self.shares])
        name = f"{self.dataset.replace('/', '___')}-{hashlib.sha256(made_with.encode()).hexdigest()[:8]}"
        return [folder / name for folder in own_folders("hub_text")]

    def _kept(self) -> Path | None:
        # the last one is written last, so that it stands for all
        return next((folder for folder in self._folders() if (folder / "train.txt").exists()), None)

    def _write(self, folder: Path, texts: Mapping[str, str]) -> None:
        for name in ("test", "val", "train"):
            content = texts[name].encode()
            write_whole(folder / f"{name}.txt", lambda file, content=content: file.write(content))  # type: ignore[misc]

    def _missing(self, reason: str) -> UserError:
        return UserError(
            f"no text of {self.dataset} was found: {reason}put train.txt, val.txt and test.txt into a folder and pass "
            "folder=",
            self.facts.name,
        )


class WikiText2(HubText):
    """WikiText-2, raw: 2 million words of good and featured articles of Wikipedia; the official splits.

    Args:
        folder: A folder of ``train.txt``, ``val.txt`` and ``test.txt`` to read in place of the hub.
        tokens: ``characters``, ``bytes``, ``words`` or ``bpe``.
        length: Tokens in a window.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep.
        batch_size: See :class:`TokenDataModule`.
        microbatches: Parts of each training batch.

    Source: Merity, Xiong, Bradbury and Socher 2017, Pointer Sentinel Mixture Models, arXiv:1609.07843; on the hub
    ``Salesforce/wikitext``, configuration ``wikitext-2-raw-v1``.
    """

    facts: ClassVar[DataModuleEntry] = WIKITEXT2
    separator: ClassVar[str] = ""  # rows end with their own line ends

    def __init__(
        self,
        folder: str | None = None,
        tokens: Tokens = "bytes",
        length: int = 128,
        vocabulary: int = 8000,
        batch_size: int | Literal["full"] = 32,
        microbatches: int = 1,
    ) -> None:
        chosen: dict[str, Any] = {"tokens": tokens, "length": length, "vocabulary": vocabulary}
        super().__init__("Salesforce/wikitext", "wikitext-2-raw-v1", folder=folder, batch_size=batch_size,
                         microbatches=microbatches, **chosen)  # fmt: skip


class TinyShakespeare(HubText):
    """40,000 lines of Shakespeare's plays, 1.1 million characters; 90 % train, 5 % validate and 5 % test, in order.

    The text file itself (``input.txt`` of char-rnn) is read by ``{name: text, path: input.txt}``.

    Args:
        folder: A folder of ``train.txt``, ``val.txt`` and ``test.txt`` to read in place of the hub.
        tokens: ``characters``, ``bytes``, ``words`` or ``bpe``.
        length: Tokens in a window.
        vocabulary: The most tokens that ``words`` and ``bpe`` keep.
        batch_size: See :class:`TokenDataModule`.
        microbatches: Parts of each training batch.

    Source: Karpathy 2015, The unreasonable effectiveness of recurrent neural networks; on the hub
    ``karpathy/tiny_shakespeare``, of which the hub's own conversion to Parquet is read.
    """

    facts: ClassVar[DataModuleEntry] = TINY_SHAKESPEARE
    revision: ClassVar[str | None] = "refs/convert/parquet"  # the set itself is a loading script, which nobody runs

    def __init__(
        self,
        folder: str | None = None,
        tokens: Tokens = "characters",
        length: int = 128,
        vocabulary: int = 1000,
        batch_size: int | Literal["full"] = 32,
        microbatches: int = 1,
    ) -> None:
        chosen: dict[str, Any] = {"tokens": tokens, "length": length, "vocabulary": vocabulary}
        super().__init__("karpathy/tiny_shakespeare", folder=folder, batch_size=batch_size,
                         microbatches=microbatches, **chosen)  # fmt: skip
