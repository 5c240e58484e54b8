from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainoff.benchmarks.suite_yaml import dump_yaml, read_yaml
from trainoff.errors import UserError

SUITE = """\
# a suite
name: digits
seeds: {tune: 1, final: 10}
recipes:
  adamw:
    optimizer:
      name: adamw
      lr: 1e-4
  "no": &off
    regularizers:
      - l2
      - name: mixup
        alpha: .5
  off: *off
"""


@pytest.fixture
def write(tmp_path):
    def written(content: str | bytes, name: str = "suite.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def test_data(write):
    recipe = {"regularizers": ["l2", {"name": "mixup", "alpha": 0.5}]}
    assert read_yaml(write(SUITE)).data == {
        "name": "digits",
        "seeds": {"tune": 1, "final": 10},
        "recipes": {"adamw": {"optimizer": {"name": "adamw", "lr": 1e-4}}, "no": recipe, "off": recipe},
    }


def test_lines_and_places(write, monkeypatch):
    monkeypatch.chdir(write(SUITE).parent)
    document = read_yaml("suite.yaml")
    assert document.where("recipes", "adamw", "optimizer", "lr") == "suite.yaml:8: recipes.adamw.optimizer.lr"
    assert (
        document.where("recipes", "no", "regularizers", 1, "alpha")
        == "suite.yaml:13: recipes.no.regularizers[1].alpha"
    )
    assert document.lines["recipes", "off"] == 14
    assert document.lines["recipes", "off", "regularizers"] == 10  # where the alias's content stands
    assert document.where("seeds", "final") == "suite.yaml:3: seeds.final"
    assert document.where("recipes", "adamw", "schedule", "warmup") == "suite.yaml:5: recipes.adamw.schedule.warmup"
    assert document.where("tasks") == "suite.yaml:2: tasks"
    assert document.where() == "suite.yaml:2"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        (".INF", math.inf),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("+3", 3),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        *[(word, word) for word in ("no", "No", "off", "yes", "on", "y", "n", "1:30", "1_000", "2024-01-01", "0b1")],
        *[(word, word) for word in ("=", "e5", "1e", ".", "-", "inf", "nan", "nul", "tru")],
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
    ],
)
def test_scalars_follow_the_core_schema(write, text, value):
    if text == "-":  # alone it begins a list
        text = value = "-x"
    found = read_yaml(write(f"key: {text}")).data["key"]
    assert (type(found), found) == (type(value), value)


def test_nan(write):
    assert math.isnan(read_yaml(write("key: .nan")).data["key"])


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ("", "", "is empty"),
        ("# only this\n", "", "is empty"),
        ("~", "", "is empty"),
        ("a: 1\n---\nb: 2\n", ":2", "a second document begins"),
        ("a: 1\nb: 2\na: 3\n", ":3", "a stands here and in line 1"),
        ("r:\n  x: {k: 1,\n      k: 2}\n", ":3", "r.x.k stands here and in line 2"),
        ("a: 1\n1: 2\n", ":2", 'the key 1 is not text; write "1"'),
        ("a: {true: 2}", ":1", 'the key true in a is not text; write "true"'),
        ("? [a]\n: 1", ":1", "a key is a list or a mapping"),
        ("a: 1\nb: !!python/object/apply:os.system ['true']", ":2", "the tag !!python/object/apply:os.system is not"),
        ("a: !mine 1", ":1", "the tag !mine is not"),
        ("a: !mine {b: 1}", ":1", "the tag !mine is not"),
        ("a: !!timestamp 2024-01-01", ":1", "the tag !!timestamp is not"),
        ("a: !!set {b, c}", ":1", "the tag !!set is not"),
        ("a: !!int no", ":1", "no is not of the type int"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", ":3", "merge keys"),
        ("a: 1\nb: [1, 2\nc: 3", ":3", "expected"),
        ("a: 1\nb:\n\t- c", ":3", "found character '\\\\t'"),
        ("a: *nowhere", ":1", "found undefined alias 'nowhere'"),
        ("a: &x [*x]", ":1", r"a\[0\] refers to something that contains it"),
        ("a: 1\nb: \x07", ":2", "the character U\\+0007"),
        (b"\x7fELF\x00\x01", ":1", "the character U\\+007F"),
        ("a: 1\nb: é".encode("latin-1"), ":2", "is not UTF-8"),
        ("a: 1".encode("utf-16"), ":1", "is not UTF-8"),
        ("a: " + "9" * 5000, ":1", "too many digits"),
        ('a: "\\ud800"', ":1", "surrogate"),
        ("%YAML 3.0\n---\na: 1", ":1", "incompatible"),
        ("#" * 1_000_001, "", "a suite has at most 1 MB"),
        ("".join(f"{'  ' * level}a:\n" for level in range(60)), ":50", "more than 50 levels"),
        ("a: &x " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*x" + "]" * 30, ":1", "more than 50 levels"),
    ],
)
def test_what_is_refused_names_file_and_line(write, content, place, message):
    path = write(content)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


def test_odd_keys_stay_on_one_line(write):
    with pytest.raises(UserError) as caught:
        read_yaml(write('"a\\nb": 1\n"a\\nb": 2'))
    assert str(caught.value).endswith(r"a\nb stands here and in line 1")


def test_files_that_are_none(write, tmp_path):
    write(SUITE)
    with pytest.raises(UserError, match=r"suit\.yaml: no such file; did you mean suite\.yaml\?"):
        read_yaml(tmp_path / "suit.yaml")
    with pytest.raises(UserError, match="there is no folder"):
        read_yaml(tmp_path / "nowhere" / "suite.yaml")
    with pytest.raises(UserError, match="is a folder"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="cannot be read: Not a directory"):
        read_yaml(tmp_path / "suite.yaml" / "x")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml("a\0b")
    with pytest.raises(UserError, match="not a regular file"):
        read_yaml("/dev/zero")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="not a regular file"):
        read_yaml(tmp_path / "pipe.yaml")


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse
    with pytest.raises(UserError, match="at most 1 MB"):
        read_yaml(path)


BOMBS = {
    "flow": "[" * 900_000,
    "mappings": "{a: " * 200_000,
    "dashes": "- " * 400_000,
    "questions": "? " * 400_000,
    "indented": "\n".join(" " * level + "a:" for level in range(1300)),
    "laughs": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)),
    "laughing mappings": "a0: &a0 {x: x}\n"
    + "".join(f"a{i}: &a{i} {{b: *a{i - 1}, c: *a{i - 1}}}\n" for i in range(1, 45)),
    "many": "[" + "a," * 490_000 + "]",
}
# PyYAML composes about 50,000 values a second, and the most it may compose is 200,000.
SLOW = {"many"}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_neither_time_nor_memory(write, name):
    path = write(BOMBS[name])
    source = """
import resource, sys, time
from trainoff.benchmarks.suite_yaml import read_yaml
from trainoff.errors import UserError
resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))
start = time.process_time()
try:
    read_yaml(sys.argv[1])
except UserError as error:
    print(time.process_time() - start, error)
"""
    done = subprocess.run([sys.executable, "-c", source, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seconds, _, message = done.stdout.partition(" ")
    assert float(seconds) < (40 if name in SLOW else 2)
    assert "more than" in message
    assert f"{path}:" in message


def test_a_suite_of_a_thousand_recipes_is_read_in_seconds(write):
    recipes = {f"recipe-{i}": {"optimizer": {"name": "adamw", "lr": 1e-3}, "schedule": "cosine"} for i in range(1000)}
    path = write(dump_yaml({"recipes": recipes}))
    start = time.process_time()
    assert read_yaml(path).data["recipes"] == recipes
    assert time.process_time() - start < 5


# What YAML can write at all: no surrogates, and of the control characters only those with an escape, which is all.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "no",
        "1e-4",
        "1:30",
        "~",
        "",
        " a ",
        "2024-01-01",
        "0o17",
        "=",
        "- a",
        "\x85",
        "a\u2028b",
        "\ufeff",
        "a: b",
        "#",
        "'",
        '"',
        "\n\n",
        "010",
        "y",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
KEYS = TEXT.filter(lambda key: key != "<<")
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


def same(one, other) -> bool:
    """Equal, with types: 1, 1.0 and True are three things."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and list(one) == list(other)
            and all(same(value, other[key]) for key, value in one.items())
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@settings(deadline=None, max_examples=300)
@given(data=DATA.filter(lambda data: data is not None))
def test_what_is_written_reads_back_equal(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_text(dump_yaml(data), encoding="utf-8")
    assert same(read_yaml(path).data, data)


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=200) | st.text("[]{}&*!:-?'\"|>%@`#, \n\tab1<.~", max_size=60).map(str.encode))
def test_any_file_is_read_or_refused_in_one_line(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        document = read_yaml(path)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert document.data is not None
        assert document.lines[()] >= 1


def test_dump_keeps_order_repeats_aliases_and_quotes_for_older_readers():
    shared = [1e-4]
    assert dump_yaml({"b": shared, "a": shared}) == "b:\n- 0.0001\na:\n- 0.0001\n"
    assert dump_yaml({"a": "no", "b": "1e-4", "c": 1e-05}) == "a: 'no'\nb: '1e-4'\nc: 1.0e-05\n"


@pytest.mark.parametrize("data", [{1: 2}, {"a": object()}, {"a": {None: 1}}, [{1, 2}]])
def test_only_plain_data_is_dumped(data):
    with pytest.raises(TypeError):
        dump_yaml(data)
