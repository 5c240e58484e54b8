"""Parquet and Arrow files as a DataModule: splits, standardisation, lists, tokens, and resumption."""

from __future__ import annotations

import pickle
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tables_on_disk import KINDS, ROWS, Kind, stream_of, write_numbers, write_table
from users_project import make_trainer

from trainoff.datamodules import ParquetStream
from trainoff.modules import Classifier, LanguageModel, MaskedLanguageModel, Recipe


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_split_by_blocks_and_standardised_by_the_training_rows(cache: Path, kind: Kind) -> None:
    columns = write_numbers(cache, kind=kind)
    data = stream_of(cache)
    data.prepare_data()
    data.setup("fit")
    assert data.input_shape == (3,)
    splits = {name: data.split(name) for name in ("train", "val", "test")}
    assert sum(len(labels) for _, labels in splits.values()) == ROWS
    assert [len(splits[name][1]) // 50 for name in ("val", "test")] == [2, 2]
    train = splits["train"][0].double()
    torch.testing.assert_close(train[:, :2].mean(0), torch.zeros(2).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(train[:, :2].std(0, unbiased=False), torch.ones(2).double(), rtol=1e-5, atol=1e-5)
    assert (train[:, 2] == 0).all()  # a constant column
    mean, std = columns["a"][: len(columns["a"])].mean(), columns["a"].std()
    for inputs, labels in splits.values():
        assert abs(inputs[:, 0].double().mean() * std + mean - 5) < 1
        assert labels.dtype == torch.int64
    assert splits["val"][1].tolist()[:5] == [0, 1, 2, 3, 2]  # the same rows whatever the kind of file
    assert stream_of(cache, split_seed=1).digest() != data.digest()


def test_a_digest_is_that_of_the_first_version_and_tells_of_changed_numbers(cache: Path) -> None:
    for kind in KINDS:
        folder = cache / kind
        folder.mkdir()
        write_numbers(folder, kind=kind)
        before = stream_of(folder).digest()
        assert kind != "parquet" or before[:16] == "d7ea8aa362817b3b"
        numbers = pa.table({"a": [0.0] * 334, "b": [0] * 334, "c": [2.5] * 334, "y": [0] * 334})
        path = write_table(numbers, folder / "part-1", kind)
        assert stream_of(folder).digest() != before
        if kind != "parquet":  # of the same length, with one number changed
            content = bytearray(path.read_bytes())
            at = content.index(np.float64(2.5).tobytes())
            whole = stream_of(folder).digest()
            content[at : at + 8] = np.float64(2.25).tobytes()
            path.write_bytes(content)
            assert stream_of(folder).digest() != whole


def test_files_for_each_split_are_the_official_ones(cache: Path) -> None:
    write_numbers(cache)
    write_numbers(cache, 120, 1, "valid")
    write_numbers(cache, 80, 2, "test")
    data = stream_of(cache, val_path=str(cache / "valid-0.parquet"), test_path=str(cache / "test-*.parquet"))
    data.setup("fit")
    assert [data.blocks[name].rows for name in ("train", "val", "test")] == [ROWS, 120, 80]


def test_a_set_that_datasets_saved_is_read_as_it_lies(cache: Path) -> None:
    columns = write_numbers(cache)
    saved = datasets.Dataset.from_dict({name: column.tolist() for name, column in columns.items()})
    saved.save_to_disk(str(cache / "saved"), num_shards=3)
    data = stream_of(cache, "saved", val_fraction=0.2)
    data.prepare_data()
    data.setup("fit")
    assert not (cache / "cache").exists()  # no copy of it was made
    parquet = stream_of(cache, val_fraction=0.2)
    parquet.setup("fit")
    for name in ("train", "val", "test"):
        for one, other in zip(data.split(name), parquet.split(name), strict=True):
            assert torch.equal(one, other)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again.split("val")[0], data.split("val")[0])


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_numbers_and_of_tokens(cache: Path, kind: Kind) -> None:
    rows = [[n, n + 1, n + 2, n + 3] for n in range(300)]
    table = pa.table({"x": pa.array(rows, pa.list_(pa.float32())), "ids": pa.array(rows, pa.list_(pa.int32(), 4)),
                      "y": np.arange(300) / 7})  # fmt: skip
    path = write_table(table, cache / "part-0", kind)
    data = stream_of(cache, inputs=["x"], target="y", num_classes=None, block=20)
    data.setup("fit")
    inputs, numbers = data.split("val")
    assert data.input_shape == (4,)
    torch.testing.assert_close(numbers[:, 0], inputs[:, 0] / 7)
    text = ParquetStream(str(path), tokens="ids", num_classes=400, mask_id=399, block=20)
    text.setup("fit")
    inputs, ahead = text.split("test")
    assert (text.input_shape, text.output_size, inputs.dtype) == ((3,), 400, torch.int64)
    assert torch.equal(ahead, inputs + 1)
    assert text.val_dataloader().batch_size == 64  # a row has length × num_classes outputs
    recipe = Recipe("adamw", batch=16)
    module = LanguageModel({"name": "gpt2", "width": 8, "depth": 1, "heads": 1}, recipe)
    make_trainer(max_epochs=1).fit(module, datamodule=text)
    masked = MaskedLanguageModel({"name": "bert", "width": 8, "depth": 1, "heads": 1}, recipe)
    make_trainer(max_epochs=1).fit(masked, datamodule=text)
    assert masked.hparams["mask_id"] == 399


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_resumed_within_an_epoch_ends_bitwise_where_it_would_have(cache: Path, kind: Kind) -> None:
    write_numbers(cache, kind=kind)

    def trained(folder: Path, checkpoint: Path | None = None) -> Classifier:
        torch.manual_seed(0)
        module = Classifier({"name": "mlp", "hidden": [8]}, Recipe("adam", batch=32))
        keep = ModelCheckpoint(folder, "{step}", every_n_train_steps=35, save_top_k=-1)  # 26 steps are an epoch
        trainer = make_trainer(max_steps=50, max_epochs=-1, enable_checkpointing=True, callbacks=[keep])
        trainer.fit(module, datamodule=stream_of(cache), ckpt_path=checkpoint, weights_only=True)
        assert trainer.global_step == 50
        return module

    whole = trained(cache / "whole")
    resumed = trained(cache / "resumed", cache / "whole" / "step=35.ckpt")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
