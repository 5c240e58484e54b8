"""Files that are mapped: which are found, what is refused and named, and flat memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from tables_on_disk import KINDS, Kind, stream_of, write_numbers, write_table

from trainoff.datamodules import ParquetStream
from trainoff.datamodules.mapped_files import find_files
from trainoff.errors import UserError


def refusal(make_data: Callable[[], ParquetStream]) -> UserError:
    with pytest.raises(UserError) as caught:
        make_data().setup("fit")
    assert "\n" not in str(caught.value)
    return caught.value


def test_mistakes_are_one_line(cache: Path) -> None:
    write_numbers(cache)
    assert "no column 'yy'; did you mean y" in str(refusal(lambda: stream_of(cache, target="yy")))
    assert "there is no such file" in str(refusal(lambda: ParquetStream(str(cache / "x*"), ["a"], "y")))
    assert "leave none for val; lower block" in str(refusal(lambda: stream_of(cache, block=5000)))
    assert "give inputs and target, or tokens alone" in str(refusal(lambda: ParquetStream("x", ["a"])))
    assert "number of different tokens" in str(refusal(lambda: ParquetStream("x", tokens="ids")))
    assert "must be at least 1" in str(refusal(lambda: stream_of(cache, window=0)))
    assert "7 is no number of a token" in str(refusal(lambda: stream_of(cache, mask_id=7)))
    text = {"tokens": "ids", "num_classes": 5}
    assert "5 is no number of a token" in str(refusal(lambda: ParquetStream("x", mask_id=5, **text)))
    write_table(pa.table({"a": [1.0] * 30}), cache / "part-9")
    error = refusal(lambda: stream_of(cache))
    assert "has other columns than" in str(error)
    assert error.where == str(cache / "part-9.parquet")


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"a": ["text"] * 30}, {}, "'a' holds string, no numbers"),
        ({"a": [1.0] * 17 + [None] + [2.0] * 12}, {}, "'a' has no value in row 18; fill it or leave the row out"),
        ({"a": [1.0] * 17 + [float("nan")] + [2.0] * 12}, {}, "that are missing or not finite in rows 16 to 20"),
        (
            {"a": [[1.0, 2.0]] * 30, "b": [1.0] * 30},
            {"inputs": ["b", "a"]},
            "'a' holds lists, and can be the only one",
        ),
        ({"a": [[1.0], [2.0], [1.0, 2.0, 3.0, 4.0]] * 10}, {}, "'a' holds lists of different lengths"),
        ({"a": [[1.0, 2.0]] * 15 + [[1.0]] * 15}, {}, "'a' holds lists of different lengths"),
        ({"a": [1.0] * 30, "y": [[1]] * 30}, {}, "'y' holds lists; a target is a class or a number"),
        ({"a": [1.0] * 30, "y": [0] * 29 + [4]}, {}, "'y' holds 4 in rows 26 to 30; num_classes=4 asks for whole"),
        ({"a": [1.0] * 30, "y": [0.5] * 30}, {}, "'y' holds 0.5 in rows "),
        (
            {"a": [[1, 2], [3, 9]] * 15},
            {"tokens": "a", "inputs": [], "target": None, "num_classes": 9},
            "'a' holds 9 in",
        ),
        ({"a": [1] * 30}, {"tokens": "a", "inputs": [], "target": None}, "'a' holds no lists of token numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "arrow stream"])
def test_a_column_that_cannot_be_read_is_named_with_its_rows(
    cache: Path, columns: dict[str, Any], arguments: dict[str, Any], message: str, kind: Kind
) -> None:
    write_table(pa.table({"y": [0] * 30, **columns}), cache / "part-0", kind)

    def read() -> ParquetStream:
        data = stream_of(cache, **{"inputs": ["a"], "block": 5, **arguments})
        data.setup("fit")
        for name in ("train", "val", "test"):
            data.split(name)
        return data

    assert message in str(refusal(read))


@pytest.mark.parametrize("how", ["truncated", "empty", "broken page", "broken list"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupt_file_is_named(cache: Path, how: str, kind: Kind) -> None:
    if how == "broken list" and kind == "parquet":
        pytest.skip("Parquet has no places of lists")
    for number in range(3):
        rows = [[float(n), n + 1.0] for n in range(300)]
        write_table(pa.table({"a": rows, "y": [0] * 300}), cache / f"part-{number}", kind)
    path = sorted(cache.glob("part-1.*"))[0]
    content = bytearray(path.read_bytes())
    if how == "broken page":
        at = 4 if kind == "parquet" else 8
        content[at : at + 396] = bytes(396)
    elif how == "broken list":
        at = content.index(np.arange(100, 120, 2, dtype=np.int32).tobytes())
        content[at : at + 4] = np.int32(2**30).tobytes()
    else:
        content = content[: len(content) // 2] if how == "truncated" else bytearray()
    path.write_bytes(content)

    def read() -> ParquetStream:
        data = stream_of(cache, inputs=["a"])
        data.setup("fit")
        data.split("train")
        return data

    error = refusal(read)
    assert error.where == str(path) or how == "broken list"
    assert "get it again" in error.message or "get the file again" in error.message


def test_an_arrow_stream_that_ends_between_two_batches_is_not_whole(cache: Path) -> None:
    write_numbers(cache, files=1, kind="arrow stream")
    path = cache / "part-0.arrow"
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_stream(source)
        reader.read_next_batch()
        first = source.tell()
    path.write_bytes(path.read_bytes()[:first])
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 100  # the library says nothing
    assert "is no whole Arrow file (it has no end); get it again" in str(refusal(lambda: stream_of(cache)))


@pytest.mark.parametrize("kind", ["arrow stream", "arrow file"])
def test_compressed_columns_are_refused(cache: Path, kind: Kind) -> None:
    table = pa.table({"a": np.zeros(1000), "y": np.zeros(1000, int)})
    path = write_table(table, cache / "part-0", kind, compression="zstd")
    error = refusal(lambda: stream_of(cache, inputs=["a"]))
    assert error.where == str(path)
    assert "its columns are compressed, and cannot be mapped; write it without compression" in error.message


def test_a_set_that_was_not_saved_whole_is_no_data(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"a": list(range(90))})
    folder = tmp_path / "saved"
    rows.save_to_disk(str(folder), num_shards=3)
    names = [f"data-0000{number}-of-00003.arrow" for number in range(3)]
    assert [file.name for file in find_files(str(folder))] == names
    for note in (True, False):  # `state.json` is written last
        (folder / names[2]).rename(tmp_path / "away")
        with pytest.raises(
            UserError, match=r"is missing, and .*saved is no whole set without it; get it again"
        ) as caught:
            find_files(str(folder))
        assert caught.value.where == str(folder / names[2])
        (tmp_path / "away").rename(folder / names[2])
        if note:
            (folder / "state.json").unlink()
    assert [file.name for file in find_files(str(folder))] == names
    (folder / "state.json").write_text("{")
    with pytest.raises(UserError, match="is not as `save_to_disk` writes it"):
        find_files(str(folder))


def test_a_folder_of_several_sets_names_them(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"a": list(range(90))})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(
        UserError, match=r"holds several sets; give path, val_path and test_path, of .*/train, .*/test"
    ):
        find_files(str(tmp_path / "saved"))
    for kind in ("parquet", "arrow file"):
        write_table(pa.table({"a": [1]}), tmp_path / "part", kind)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"files that end in \.arrow and others; give a pattern"):
        find_files(str(tmp_path))


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
if sys.argv[3] == "prepare":
    sys.exit()
data.setup("fit")
loader = data.train_dataloader()
for _, batch in zip(range(50), loader):
    pass
before, most, rows, start = anonymous(), 0.0, 0, time.perf_counter()
for epoch in (0, 1):
    loader.set_epoch(epoch)
    for number, (inputs, targets) in enumerate(loader):
        rows += len(targets)
        most = max(most, anonymous()) if number % 10 == 0 else most
seconds = time.perf_counter() - start
print(before, most, rows, seconds)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[:2])
def test_host_memory_stays_flat(tmp_path: Path, kind: Kind) -> None:
    """A set of 410 MB is read twice; the process's own memory grows by copies of one window of 17 MB, no more."""
    rows, width = 200_000, 512
    generator = np.random.default_rng(0)
    for number in range(4):
        values = generator.normal(size=(rows // 4, width)).astype(np.float32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
        table = pa.table({"x": lists, "y": generator.integers(0, 2, rows // 4)})
        write_table(table, tmp_path / f"part-{number}", kind, rows=5000)
    for step in ("prepare", "read"):  # what is left of writing the copy is not counted
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(tmp_path / "part-*"), str(tmp_path / "cache"), step],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    before, most, read, seconds = map(float, done.stdout.split())
    print(f"{before:.0f} MB, at most {most:.0f} MB over {read:,.0f} rows; {read / seconds:,.0f} rows/s, "
          f"{read * width * 4 / 1e6 / seconds:,.0f} MB/s")  # fmt: skip
    assert most - before < 100
