"""What a trial's id depends on beside its setting."""

from __future__ import annotations

import hashlib
import sys

import pytest

from trainoff.benchmarks import provenance
from trainoff.benchmarks.provenance import check_batch, source_digests, train_size
from trainoff.datamodules import Digits
from trainoff.errors import UserError
from trainoff.registry import Entry, Registry


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A module that can be edited and imported anew."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        (tmp_path / "an_edited_project.py").write_text(text)
        sys.modules.pop("an_edited_project", None)

    return write


def test_editing_the_file_of_a_class_changes_its_digest(project):
    config = {"optimizer": {"class_path": "an_edited_project.Thing", "init_args": {}}}
    digests = []
    for text in ("class Thing:\n    pass\n", "class Thing:\n    pass\n", "STEP = 2\n\n\nclass Thing:\n    pass\n"):
        project(text)
        digests.append(source_digests(config))
    assert list(digests[0]) == ["an_edited_project.Thing"]
    assert digests[0] == digests[1] != digests[2]


def test_a_name_that_a_package_registered_counts_as_its_class(project, monkeypatch):
    project("class Thing:\n    pass\n")
    entry = Entry("theirs", "an_edited_project:Thing", package="their-package")
    monkeypatch.setattr(provenance, "_REGISTRIES", (Registry("thing", [entry], Entry, "no.group"),))
    assert list(source_digests({"net": {"name": "theirs"}})) == ["an_edited_project.Thing"]


def test_another_checkpoint_under_the_same_path_is_another_digest(tmp_path):
    path = tmp_path / "teacher.ckpt"
    choice = {"regularizers": [{"name": "distillation", "teacher": str(path)}]}
    assert source_digests(choice) == {}  # the training says that it is missing
    digests = []
    for content in (b"first", b"first", b"second"):
        path.write_bytes(content)
        digests.append(source_digests(choice, choice))
    assert digests[0] == digests[1] == {str(path): hashlib.sha256(b"first").hexdigest()}
    assert digests[2] == {str(path): hashlib.sha256(b"second").hexdigest()}


def test_shipped_names_bring_no_digest():
    assert source_digests({"optimizer": {"name": "adamw"}, "regularizers": [{"name": "l2"}]}) == {}


def test_a_batch_larger_than_the_data_is_refused():
    data = Digits()
    data.setup()
    size = train_size(data)
    assert size == len(data.split("train")[0])
    check_batch(size, 1, size)
    check_batch("full", 3, size)
    with pytest.raises(UserError, match=f"a batch of {size + 1} samples; the training split has {size}"):
        check_batch(size + 1, 1, size)
    with pytest.raises(UserError, match="microbatches"):
        check_batch("full", size + 1, size)
