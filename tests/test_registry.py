"""Names: shipped ones resolve, unknown ones answer with the closest, third parties' are listed without importing."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from trainoff import registry as registry_module
from trainoff.catalogue import KINDS, find, registry_of
from trainoff.errors import UserError
from trainoff.registry import Entry, Registry, arguments_of, import_class, normalise

CHEAP = [
    (kind, entry)
    for kind, entries in KINDS.items()
    for entry in entries
    if "pytorch_optimizer" not in entry.target  # five seconds to import; its names have tests of their own
]


@pytest.mark.parametrize(("kind", "entry"), CHEAP, ids=lambda value: getattr(value, "name", value))
def test_every_shipped_name_resolves_and_says_what_it_is(kind, entry):
    assert entry.summary
    assert entry.load() is not None if entry.target else kind in ("batch_regimes", "norms")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("optimizers", "adamw"), ("schedules", "cosine"), ("regularizers", "dropout"), ("nets", "resnet20")],
)
def test_methods_name_their_paper(kind, name):
    assert KINDS[kind][name].paper


def test_an_unknown_name_answers_with_the_closest():
    with pytest.raises(UserError, match="did you mean cosine"):
        KINDS["schedules"]["cosin"]
    with pytest.raises(UserError, match="did you mean optimizers"):
        registry_of("optimisers")
    with pytest.raises(UserError, match="did you mean label_smoothing"):
        find("label_smooting")


def test_kinds_are_known_in_the_singular_too():
    assert registry_of("optimizer") is KINDS["optimizers"]
    assert registry_of("strategy") is KINDS["strategies"]


def _with_entry_points(monkeypatch, *points):
    def entry_points(group):
        made = []
        for name, value, package in points:
            point = EntryPoint(name, value, group)
            vars(point).update(dist=SimpleNamespace(name=package))
            made.append(point)
        return made

    monkeypatch.setattr(registry_module, "entry_points", entry_points)


def test_entry_points_are_listed_without_importing(monkeypatch):
    _with_entry_points(monkeypatch, ("mine", "no_such_module:Thing", "their-package"))
    things = Registry("thing", [Entry("ours", "math:pi", "pi")], Entry, "trainoff.things")
    assert things.names() == ["ours", "mine"]
    assert things["mine"].package == "their-package"
    assert "no_such_module" not in sys.modules
    with pytest.raises(UserError, match="needs the package 'no_such_module'"):
        things["mine"].load()


def test_a_collision_is_named_and_the_first_wins(monkeypatch):
    points = (("ours", "math:tau", "a-package"), ("new", "math:e", "b"), ("new", "math:tau", "c"))
    _with_entry_points(monkeypatch, *points)
    things = Registry("thing", [Entry("ours", "math:pi", "pi")], Entry, "trainoff.things")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert things["ours"].load() == pytest.approx(3.14159, abs=1e-4)
        assert things["new"].package == "b"
    said = [str(warning.message) for warning in caught]
    assert any("'ours' of package 'a-package'" in text and "trainoff has that name" in text for text in said)
    assert any("'new' of package 'c'" in text and "b has that name" in text for text in said)


def test_a_name_registered_twice_is_the_programmers_mistake():
    with pytest.raises(ValueError, match="registered twice"):
        Registry("thing", [Entry("a", "math:pi"), Entry("a", "math:e")], Entry, "trainoff.things")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("adamw", {"name": "adamw"}),
        ({"name": "adamw", "lr": 1}, {"name": "adamw", "lr": 1}),
        ("a.B", {"class_path": "a.B", "init_args": {}}),
        ({"class_path": "a.B"}, {"class_path": "a.B", "init_args": {}}),
    ],
)
def test_choices_are_normalised(choice, expected):
    assert normalise(choice, "key") == expected
    assert "name" not in arguments_of(normalise(choice, "key"))


@pytest.mark.parametrize("choice", [3, None, ["adamw"], {"lr": 1}, {"name": 3}, {"class_path": "a.B", "lr": 1}])
def test_what_is_no_choice_is_refused(choice):
    with pytest.raises(UserError, match=r"^key: "):
        normalise(choice, "key")


@pytest.mark.parametrize("path", ["nodots", "no_such.Thing", "math.nothing"])
def test_a_class_path_that_leads_nowhere_is_said(path):
    with pytest.raises(UserError, match="class_path"):
        import_class(path)
