"""Rows on disk: their order, their shares, resumption, standardisation, what is refused, and flat memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from users_project import make_trainer

from trainoff.datamodules import ParquetStream
from trainoff.datamodules.block_stream import BlockOrder, Blocks, StreamBatches
from trainoff.errors import UserError
from trainoff.modules import Classifier, LanguageModel, Recipe

ROWS = 1003


class Numbers:
    """A table whose rows are their own numbers; it notes how many were read at a time."""

    def __init__(self, rows: int) -> None:
        self.rows, self.largest = rows, 0

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        assert 0 <= start < stop <= self.rows
        self.largest = max(self.largest, stop - start)
        return torch.arange(start, stop)[:, None].float(), torch.arange(start, stop)


def stream(rows: int, block: int, window: int, **options: Any) -> StreamBatches:
    return StreamBatches(Numbers(rows), Blocks.of(rows, block), options.pop("batch_size", 7), window,
                         **{"shuffle": True, "seed": 3, **options})  # fmt: skip


def targets(loader: StreamBatches) -> list[list[int]]:
    return [batch[1].tolist() for batch in loader]


@given(rows=st.integers(2, 200), block=st.integers(1, 30), window=st.integers(1, 5), size=st.integers(1, 40),
       epoch=st.integers(0, 3))  # fmt: skip
@settings(deadline=None)
def test_every_row_comes_once_an_epoch(rows: int, block: int, window: int, size: int, epoch: int) -> None:
    loader = stream(rows, block, window, batch_size=size)
    loader.set_epoch(epoch)
    batches = targets(loader)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert len(batches) == len(loader) == -(-rows // size)
    assert all(inputs[:, 0].tolist() == labels.tolist() for inputs, labels in loader)
    again = stream(rows, block, window, batch_size=size)
    again.set_epoch(epoch)
    assert targets(again) == batches


@given(rows=st.integers(8, 120), ranks=st.integers(1, 4), parts=st.integers(1, 2), block=st.integers(1, 20))
@settings(deadline=None, max_examples=50)
def test_ranks_and_micro_batches_share_the_undivided_batches(rows: int, ranks: int, parts: int, block: int) -> None:
    size = 8 * ranks
    options: dict[str, Any] = {"batch_size": size, "equal_shares": True}
    whole = targets(stream(rows, block, 3, world_size=1, **options))
    shares = [targets(stream(rows, block, 3, rank=rank, world_size=ranks, microbatches=parts, **options))
              for rank in range(ranks)]  # fmt: skip
    seen = [row for share in shares for batch in share for row in batch]
    assert len(seen) == len(set(seen)) == rows - rows % ranks
    first = {row for share in shares for batch in share[:parts] for row in batch}
    if rows >= size:
        assert first == set(whole[0])


@given(rows=st.integers(1, 100), ranks=st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_evaluation_counts_every_row_once_whatever_the_ranks(rows: int, ranks: int) -> None:
    if rows < ranks:
        return
    seen = [row for rank in range(ranks)
            for batch in targets(stream(rows, 7, 2, shuffle=False, batch_size=16, rank=rank, world_size=ranks))
            for row in batch]  # fmt: skip
    assert sorted(seen) == list(range(rows))


@given(after=st.integers(1, 20), size=st.integers(3, 9))
@settings(deadline=None, max_examples=40)
def test_resumed_anywhere_an_epoch_goes_on_as_it_would_have(after: int, size: int) -> None:
    whole = targets(stream(150, 8, 3, batch_size=size))
    loader = stream(150, 8, 3, batch_size=size)
    iterator = iter(loader)
    for _ in range(min(after, len(whole) - 1)):
        next(iterator)
    again = stream(150, 8, 3, batch_size=size, seed=99)
    again.load_state_dict(loader.state_dict())
    assert targets(again) == whole[min(after, len(whole) - 1) :]


def test_an_order_mixes_rows_within_windows_and_never_changes() -> None:
    blocks = Blocks.of(1000, 50)
    order = BlockOrder(blocks, 4, seed=0, epoch=0)
    rows = torch.cat([order.read(Numbers(1000), number)[1] for number in range(5)]).tolist()
    assert sorted(rows) == list(range(1000))
    for number in range(5):
        inside = rows[number * 200 : (number + 1) * 200]
        assert len({row // 50 for row in inside}) == 4
        assert inside != sorted(inside)
    assert rows[:2] == [661, 367]
    assert BlockOrder(blocks, 4, seed=0, epoch=1).blocks.starts.tolist() != order.blocks.starts.tolist()


def test_no_more_than_a_window_is_in_memory() -> None:
    loader = stream(1000, 20, 3, batch_size=33)
    targets(loader)
    assert loader.source.largest <= 20  # type: ignore[attr-defined]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def write(folder: Path, rows: int = ROWS, files: int = 3, name: str = "part") -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    columns = {
        "a": generator.normal(5, 3, rows),
        "b": generator.integers(0, 100, rows),
        "c": np.full(rows, 2.5, np.float32),
        "y": generator.integers(0, 4, rows),
    }
    for number, part in enumerate(np.array_split(np.arange(rows), files)):
        table = pa.table({key: values[part] for key, values in columns.items()})
        pyarrow.parquet.write_table(table, folder / f"{name}-{number}.parquet", row_group_size=100)
    return columns


def make(folder: Path, **arguments: Any) -> ParquetStream:
    chosen = {"inputs": ["a", "b", "c"], "target": "y", "num_classes": 4, "block": 50, "window": 3, **arguments}
    return ParquetStream(str(folder / "part-*.parquet"), **chosen)


def test_rows_are_split_by_blocks_and_standardised_by_the_training_rows(cache: Path) -> None:
    columns = write(cache)
    data = make(cache)
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
    assert data.digest()[:16] == "d7ea8aa362817b3b"
    assert make(cache, split_seed=1).digest() != data.digest()


def test_files_for_each_split_are_the_official_ones(cache: Path) -> None:
    write(cache)
    write(cache, 120, 1, "valid")
    write(cache, 80, 2, "test")
    data = make(cache, val_path=str(cache / "valid-0.parquet"), test_path=str(cache / "test-*.parquet"))
    data.setup("fit")
    assert [data.blocks[name].rows for name in ("train", "val", "test")] == [ROWS, 120, 80]


def test_lists_of_numbers_and_of_tokens(cache: Path) -> None:
    rows = [[n, n + 1, n + 2, n + 3] for n in range(300)]
    table = pa.table({"x": pa.array(rows, pa.list_(pa.float32())), "ids": pa.array(rows, pa.list_(pa.int32(), 4)),
                      "y": np.arange(300) / 7})  # fmt: skip
    pyarrow.parquet.write_table(table, cache / "part-0.parquet")
    data = make(cache, inputs=["x"], target="y", num_classes=None, block=20)
    data.setup("fit")
    inputs, numbers = data.split("val")
    assert data.input_shape == (4,)
    torch.testing.assert_close(numbers[:, 0], inputs[:, 0] / 7)
    text = ParquetStream(str(cache / "part-0.parquet"), tokens="ids", num_classes=400, block=20)
    text.setup("fit")
    inputs, ahead = text.split("test")
    assert (text.input_shape, text.output_size, inputs.dtype) == ((3,), 400, torch.int64)
    assert torch.equal(ahead, inputs + 1)
    module = LanguageModel({"name": "gpt2", "width": 8, "depth": 1, "heads": 1}, Recipe("adamw", batch=16))
    make_trainer(max_epochs=1).fit(module, datamodule=text)


def test_a_training_resumed_within_an_epoch_ends_bitwise_where_it_would_have(cache: Path) -> None:
    write(cache)

    def trained(steps: int, checkpoint: Path | None = None) -> Classifier:
        torch.manual_seed(0)
        module = Classifier({"name": "mlp", "hidden": [8]}, Recipe("adam", batch=32))
        trainer = make_trainer(max_steps=steps)
        trainer.fit(module, datamodule=make(cache), ckpt_path=checkpoint, weights_only=True)
        if steps == 35:  # the second epoch begins after 26
            trainer.save_checkpoint(cache / "half.ckpt")
        return module

    whole = trained(50)
    trained(35)
    resumed = trained(50, cache / "half.ckpt")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def refusal(make_data: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        make_data().setup("fit")
    assert "\n" not in str(caught.value)
    return caught.value


def test_mistakes_are_one_line(cache: Path) -> None:
    write(cache)
    assert "no column 'yy'; did you mean y" in str(refusal(lambda: make(cache, target="yy")))
    assert "there is no such file" in str(refusal(lambda: ParquetStream(str(cache / "x*"), ["a"], "y")))
    assert "leave none for val; lower block" in str(refusal(lambda: make(cache, block=5000)))
    assert "give inputs and target, or tokens alone" in str(refusal(lambda: ParquetStream("x", ["a"])))
    assert "number of different tokens" in str(refusal(lambda: ParquetStream("x", tokens="ids")))
    assert "must be at least 1" in str(refusal(lambda: make(cache, window=0)))
    table = pa.table({"a": ["text"] * 30, "y": [1] * 30})
    (cache / "t").mkdir()
    pyarrow.parquet.write_table(table, cache / "t" / "part-0.parquet")
    assert "'a' holds string, no numbers" in str(refusal(lambda: make(cache / "t", inputs=["a"], block=5)))
    pyarrow.parquet.write_table(table, cache / "part-9.parquet")
    error = refusal(lambda: make(cache))
    assert "has other columns than" in str(error)
    assert error.where == str(cache / "part-9.parquet")


@pytest.mark.parametrize("how", ["truncated", "empty", "broken page"])
def test_a_corrupt_file_is_named(cache: Path, how: str) -> None:
    write(cache)
    path = cache / "part-1.parquet"
    content = bytearray(path.read_bytes())
    if how == "broken page":
        content[4:400] = bytes(396)
    else:
        content = content[: len(content) // 2] if how == "truncated" else bytearray()
    path.write_bytes(content)
    error = refusal(lambda: make(cache))
    assert error.where == str(path)
    assert "get it again" in error.message


MEMORY = """
import sys, time, warnings
warnings.simplefilter("ignore")
import datasets, torch
from pathlib import Path
datasets.config.HF_DATASETS_CACHE = Path(sys.argv[2])
datasets.disable_progress_bars()
from trainoff.datamodules import ParquetStream

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

data = ParquetStream(sys.argv[1], ["x"], "y", num_classes=2, block=1024, window=8, batch_size=256)
data.prepare_data()
data.setup("fit")
loader = data.train_dataloader()
for _, batch in zip(range(50), loader):
    pass
before, most, rows, start = anonymous(), 0.0, 0, time.perf_counter()
for epoch in (0, 1):
    loader.set_epoch(epoch)
    for inputs, targets in loader:
        rows += len(targets)
        most = max(most, anonymous()) if rows % 25600 == 0 else most
seconds = time.perf_counter() - start
print(before, most, rows, seconds)
"""


@pytest.mark.slow
def test_host_memory_stays_flat(tmp_path: Path) -> None:
    """A set of 410 MB is read twice; the process's own memory grows by copies of one window of 17 MB, no more."""
    rows, width = 200_000, 512
    generator = np.random.default_rng(0)
    for number in range(4):
        values = generator.normal(size=(rows // 4, width)).astype(np.float32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
        table = pa.table({"x": lists, "y": generator.integers(0, 2, rows // 4)})
        pyarrow.parquet.write_table(table, tmp_path / f"part-{number}.parquet", row_group_size=5000)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "part-*.parquet"), str(tmp_path / "cache")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, most, read, seconds = map(float, done.stdout.split())
    print(f"{before:.0f} MB, at most {most:.0f} MB over {read:,.0f} rows; {read / seconds:,.0f} rows/s, "
          f"{read * width * 4 / 1e6 / seconds:,.0f} MB/s")  # fmt: skip
    assert most - before < 100
