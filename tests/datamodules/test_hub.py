"""Sets of the hub, from a server on loopback: a user's code path to the last step before the network.

Each test runs in a process of its own, since the hub's libraries read the environment when they are imported.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub, card, parquet_of, serving

ROOT = Path(__file__).parents[2]
SPLITS = {"train": "data/train-*", "test": "data/test-*"}
MNIST = "from trainoff.datamodules import MNIST; data = MNIST()"


def pixels(count: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def rows(
    images: np.ndarray, image: str = "image", label: str = "label", classes: int = 10, **others: list[int]
) -> bytes:
    """A split in the hub's layout: images as PNG in a column of structures, classes with their names."""
    import datasets

    features = {image: datasets.Image(), label: datasets.ClassLabel(num_classes=classes)}
    features |= {name: datasets.Value("int64") for name in others}
    columns = {image: list(images), label: [n % classes for n in range(len(images))], **others}
    return parquet_of(datasets.Dataset.from_dict(columns, features=datasets.Features(features)))


@pytest.fixture(scope="module")
def mnist() -> dict[str, bytes]:
    files = {f"data/{name}-00000-of-00001.parquet": rows(pixels(count, (28, 28), seed))
             for seed, (name, count) in enumerate({"train": 120, "test": 20}.items())}  # fmt: skip
    return {"README.md": card(SPLITS), **files}


@pytest.fixture
def hub(mnist: dict[str, bytes]) -> Iterator[Hub]:
    hub = Hub({"ylecun/mnist": mnist})
    with serving(hub):
        yield hub


def environment(home: Path, url: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_", "TRAINOFF_"))}
    kept = {key: value for key, value in kept.items() if not key.lower().endswith("_proxy")}
    return {**kept, "HOME": str(home), "HF_ENDPOINT": url, "PYTHONPATH": str(ROOT)}


def run(home: Path, url: str, build: str, then: str = "") -> tuple[str, float]:
    """What a user's process prints, or the one line of its mistake; and the seconds of ``prepare_data`` alone."""
    program = f"""
import time
from unittest.mock import patch
from trainoff.errors import UserError
{build}
data.system_folder = None
start = time.monotonic()
try:
    import datasets
    start = time.monotonic()
    data.prepare_data()
    seconds = time.monotonic() - start
    data.setup("fit")
    {then or 'print([len(data.split(name)[1]) for name in ("train", "val", "test")])'}
except UserError as error:
    seconds = time.monotonic() - start
    print("UserError", error)
print(seconds)
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment(home, url), capture_output=True, text=True,
                          check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    *text, seconds = done.stdout.splitlines()
    return "\n".join(text), float(seconds)


def test_a_set_is_downloaded_once_and_decoded_once(hub: Hub, tmp_path: Path) -> None:
    show = "print(int(data.stored('test')[0].sum()), data.stored('test')[1].tolist())"
    text, _ = run(tmp_path, hub.url, MNIST, show)
    expected = pixels(20, (28, 28), 1)
    assert text == f"{int(expected.sum())} {[n % 10 for n in range(20)]}"
    assert [request for request in hub.requests if "GET" in request and request.endswith(".parquet")]
    kept = tmp_path / ".cache" / "trainoff" / "mnist"
    assert sorted(path.name for path in kept.iterdir()) == [
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]
    hub.requests.clear()
    assert run(tmp_path, hub.url, MNIST)[0] == "[100, 20, 20]"
    assert hub.requests == []


@pytest.mark.slow
def test_colour_images_come_from_their_own_columns(hub: Hub, tmp_path: Path) -> None:
    """CIFAR-10's layout, ``img`` and ``label``, with fewer images than the real set has."""
    images = {"train": pixels(50, (32, 32, 3), 0), "test": pixels(10, (32, 32, 3), 1)}
    files = {f"data/{name}-00000-of-00001.parquet": rows(part, "img") for name, part in images.items()}
    hub.repositories["uoft-cs/cifar10"] = {"README.md": card(SPLITS), **files}
    build = (
        "from trainoff.datamodules import CIFAR10\n"
        "CIFAR10.train_records = {f'data_batch_{n}.bin': 10 for n in range(1, 6)}; CIFAR10.test_records = 10\n"
        "data = CIFAR10()"
    )
    text, _ = run(tmp_path, hub.url, build, "print(int(data.stored('test')[0].sum()), data.input_shape)")
    assert text == f"{int(images['test'].sum())} (3, 32, 32)"


@pytest.mark.slow
def test_any_image_set_of_the_hub_by_its_name(hub: Hub, tmp_path: Path) -> None:
    """Columns of other names, three classes, a split for validation; resized."""
    parts = {"train": 60, "validation": 15, "test": 12}
    files = {f"data/{name}-00000-of-00001.parquet": rows(pixels(count, (20, 24, 3), seed), "picture", "kind", 3)
             for seed, (name, count) in enumerate(parts.items())}  # fmt: skip
    splits = {name: f"data/{name}-*" for name in parts}
    hub.repositories["someone/pictures"] = {"README.md": card(splits), **files}
    build = (
        "from trainoff.datamodules import HubImages\n"
        "data = HubImages('someone/pictures', image='picture', label='kind', resize=16)"
    )
    show = "print([len(data.split(name)[1]) for name in ('train', 'val', 'test')], data.input_shape, data.num_classes)"
    assert run(tmp_path, hub.url, build, show)[0] == "[60, 15, 12] (3, 16, 16) 3"
    missing = build.replace("image='picture'", "image='photo'")
    assert "photo" in run(tmp_path / "other", hub.url, missing)[0]
    hub.requests.clear()
    assert run(tmp_path, hub.url, build, show)[0] == "[60, 15, 12] (3, 16, 16) 3"
    assert hub.requests == []


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        pytest.param({"repositories": {}}, "the hub has no data set 'ylecun/mnist'", marks=pytest.mark.slow),
        pytest.param({"refuse": (403, "GatedRepo")}, "is gated: ask for access", marks=pytest.mark.slow),
        ({"gated": True}, "is gated: ask for access at its page on the hub, then run `hf auth login`"),
        ({"refuse": (401, "RepoNotFound")}, "the hub has no data set 'ylecun/mnist', or none that you may see"),
        ({"refuse": (500, "")}, "the hub failed"),
        pytest.param({"refuse": (429, "")}, "the hub failed", marks=pytest.mark.slow),
        ({"silent": True}, "the hub did not answer within 2 s"),
    ],
)
def test_a_hub_that_gives_nothing_says_so_in_one_line_within_five_seconds(
    hub: Hub, tmp_path: Path, behaviour: dict[str, object], message: str
) -> None:
    for key, value in behaviour.items():
        setattr(hub, key, value)
    text, seconds = run(tmp_path, hub.url, MNIST)
    assert text.startswith("UserError mnist: no files of MNIST were found: ")
    assert message in text
    assert "put the four idx files" in text
    assert "\n" not in text
    assert seconds < 5


def test_no_hub_at_all_is_one_line_within_five_seconds(tmp_path: Path) -> None:
    text, seconds = run(tmp_path, f"http://127.0.0.1:{closed_port()}", MNIST)
    assert "the hub cannot be reached" in text
    assert "\n" not in text
    assert seconds < 5


@pytest.mark.slow  # the library takes up a broken download five times, with pauses
def test_half_a_download_is_no_data_and_a_second_try_completes_it(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 3000
    text, _ = run(tmp_path, hub.url, MNIST)
    assert text.startswith("UserError")
    assert "\n" not in text
    assert not list((tmp_path / ".cache" / "trainoff").rglob("*ubyte"))
    hub.break_after = None
    assert run(tmp_path, hub.url, MNIST)[0] == "[100, 20, 20]"


@pytest.mark.slow  # likewise, after waiting for a byte each time
def test_a_hub_that_falls_silent_within_a_file_is_given_up_and_a_second_try_completes_it(
    hub: Hub, tmp_path: Path
) -> None:
    hub.silent_after = 3000
    text, seconds = run(tmp_path, hub.url, MNIST)
    assert text.startswith("UserError mnist: no files of MNIST were found: the hub failed (")
    assert "\n" not in text
    assert seconds < 35
    downloads = [request for request in hub.requests if request.startswith("GET") and request.endswith(".parquet")]
    assert len(downloads) > 1  # it began, and was taken up again
    assert not list((tmp_path / ".cache" / "trainoff").rglob("*ubyte"))
    hub.silent_after = None
    assert run(tmp_path, hub.url, MNIST)[0] == "[100, 20, 20]"


@pytest.mark.slow
def test_the_librarys_cache_serves_where_the_hub_is_away(hub: Hub, tmp_path: Path) -> None:
    run(tmp_path, hub.url, MNIST)
    kept = tmp_path / ".cache" / "trainoff" / "mnist"
    (kept / "train-images-idx3-ubyte").unlink()
    text, seconds = run(tmp_path, f"http://127.0.0.1:{closed_port()}", MNIST)
    assert text == "[100, 20, 20]"
    assert seconds < 5


@pytest.mark.slow
def test_a_truncated_copy_of_ours_is_made_again(hub: Hub, tmp_path: Path) -> None:
    run(tmp_path, hub.url, MNIST)
    path = tmp_path / ".cache" / "trainoff" / "mnist" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    assert run(tmp_path, hub.url, MNIST)[0] == "[100, 20, 20]"


def text_rows(texts: list[str]) -> bytes:
    import datasets

    return parquet_of(datasets.Dataset.from_dict({"text": texts}))


@pytest.mark.slow
def test_a_text_of_the_hub_is_kept_as_text_files(hub: Hub, tmp_path: Path) -> None:
    """WikiText-2's layout: a configuration of its own, rows that end with their line ends."""
    parts = {
        "train": ["= A =\n", "", "the cat sat\n"] * 30,
        "validation": ["the mat\n"] * 20,
        "test": ["a hat\n"] * 20,
    }
    folder = "wikitext-2-raw-v1"
    files = {f"{folder}/{name}-00000-of-00001.parquet": text_rows(rows) for name, rows in parts.items()}
    description = card({name: f"{folder}/{name}-*" for name in parts}, folder)
    hub.repositories["Salesforce/wikitext"] = {"README.md": description, **files}
    build = "from trainoff.datamodules import WikiText2; data = WikiText2(length=16)"
    show = "print(repr(data.decode(data.split('test')[0][0])), data.output_size)"
    assert run(tmp_path, hub.url, build, show)[0] == "'a hat\\na hat\\na ha' 257"
    (kept,) = (tmp_path / ".cache" / "trainoff" / "hub_text").iterdir()
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "train.txt": "= A =\nthe cat sat\n" * 30,
        "val.txt": "the mat\n" * 20,
        "test.txt": "a hat\n" * 20,
    }
    hub.requests.clear()
    alone = f"from trainoff.datamodules import WikiText2; data = WikiText2(folder={str(kept)!r}, length=16)"
    assert run(tmp_path / "elsewhere", hub.url, alone, show)[0] == "'a hat\\na hat\\na ha' 257"
    assert hub.requests == []


@pytest.mark.slow
def test_translations_of_the_hub_are_kept_as_pairs(hub: Hub, tmp_path: Path) -> None:
    """opus_books' layout: one split, a column with a text for each language."""
    import datasets

    rows = [{"id": str(n), "translation": {"en": f"cat\tnumber {n}", "fr": f"chat numéro {n}"}} for n in range(50)]
    files = {"en-fr/train-00000-of-00001.parquet": parquet_of(datasets.Dataset.from_list(rows))}
    hub.repositories["Helsinki-NLP/opus_books"] = {"README.md": card({"train": "en-fr/train-*"}, "en-fr"), **files}
    build = (
        "from trainoff.datamodules import HubTranslation\n"
        "data = HubTranslation('Helsinki-NLP/opus_books', 'en-fr', tokens='words')"
    )
    sizes = "[len(data.split(name)[0]) for name in ('train', 'val', 'test')]"
    show = f"print(*(data.decode(part[0]) for part in data.split('val')), {sizes})"
    text = run(tmp_path, hub.url, build, show)[0]
    number = text.split()[2]
    assert text == f"cat number {number} chat numéro {number} [40, 5, 5]"
    assert "no language 'de'" in run(tmp_path, hub.url, build.replace("'en-fr',", "'en-fr', target='de',"))[0]


@pytest.mark.slow
def test_a_text_set_offline_is_one_line_within_five_seconds(tmp_path: Path) -> None:
    build = "from trainoff.datamodules import TinyShakespeare; data = TinyShakespeare()"
    text, seconds = run(tmp_path, f"http://127.0.0.1:{closed_port()}", build)
    assert text.startswith("UserError tiny_shakespeare: no text of karpathy/tiny_shakespeare was found: ")
    assert "pass folder=" in text
    assert seconds < 5


@pytest.mark.slow
def test_the_cache_does_not_guess_between_configurations(hub: Hub, tmp_path: Path) -> None:
    for config in ("one", "two"):
        files = {f"{config}/train-00000-of-00001.parquet": text_rows([f"the text of {config}\n"] * 30)}
        hub.repositories[f"someone/{config}"] = {"README.md": card({"train": f"{config}/train-*"}, config), **files}
    both = hub.repositories["someone/one"] | hub.repositories["someone/two"]
    both["README.md"] = card({"train": "one/train-*"}, "one").replace(b"---\n", b"", 1)
    both["README.md"] = (
        b"---\n"
        + both["README.md"].replace(b"---\n", b"")
        + (b"- config_name: two\n  data_files:\n  - split: train\n    path: two/train-*\n---\n")
    )
    hub.repositories["someone/texts"] = both
    build = "from trainoff.datamodules import HubText; data = HubText('someone/texts', {!r}, length=8)"
    for config in ("one", "two"):
        assert run(tmp_path, hub.url, build.format(config))[0] == "[50, 6, 6]"
    (tmp_path / ".cache" / "trainoff").rename(tmp_path / "away")
    away = f"http://127.0.0.1:{closed_port()}"
    assert "the cache has one, two of 'someone/texts'" in run(tmp_path, away, build.format(None))[0]
    assert run(tmp_path, away, build.format("two"), "print(data.decode(data.split('train')[0][0]))")[0] == "the text"
