"""Ids are minted once, survive any kill, and are given up where W&B will not take them again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainoff.errors import UserError
from trainoff.leaderboards.publishing.ledger import Ledger


def test_an_id_is_minted_once_and_the_same_in_every_place(tmp_path):
    first = Ledger(tmp_path, "host/me/p").run_id("trial")
    assert re.fullmatch(r"[a-z0-9]{12}", first)
    assert Ledger(tmp_path, "host/me/p").run_id("trial") == first
    assert Ledger(tmp_path, "offline//p").run_id("trial") == first
    assert Ledger(tmp_path, "host/me/p").run_id("another") != first


def test_two_folders_do_not_collide(tmp_path):
    """Two machines that run the same trial."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert Ledger(tmp_path / "a", "p").run_id("trial") != Ledger(tmp_path / "b", "p").run_id("trial")


def test_a_deleted_run_gets_a_new_id_there_alone(tmp_path):
    here = Ledger(tmp_path, "here")
    old = here.run_id("trial")
    assert Ledger(tmp_path, "there").run_id("trial") == old
    here.deleted("run", "trial")
    assert here.find("run", "trial") is None
    new = here.run_id("trial")
    assert new != old
    assert Ledger(tmp_path, "here").run_id("trial") == new
    assert Ledger(tmp_path, "there").run_id("trial") == old


def test_what_arrived_is_known(tmp_path):
    ledger = Ledger(tmp_path, "here")
    identity = ledger.run_id("trial")
    assert ledger.find("run", "trial").digest == ""
    ledger.arrived("run", "trial", identity, "d1")
    size = ledger.path.stat().st_size
    ledger.arrived("run", "trial", identity, "d1")
    assert ledger.path.stat().st_size == size, "nothing new is no line"
    again = Ledger(tmp_path, "here").find("run", "trial")
    assert (again.id, again.digest) == (identity, "d1")


@given(cut=st.integers(0, 400), data=st.data())
def test_a_kill_at_any_byte_loses_no_earlier_line(cut, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(folder, "here")
    ids = {name: ledger.run_id(name) for name in ("a", "b", "c", "d")}
    content = ledger.path.read_bytes()[:cut]
    ledger.path.write_bytes(content)
    whole = content.count(b"\n")
    kept = Ledger(folder, "here")
    for name in list(ids)[:whole]:
        assert kept.run_id(name) == ids[name]
    new = kept.run_id("later")  # and the file can still be added to
    assert Ledger(folder, "here").run_id("later") == new
    for name in list(ids)[:whole]:
        assert Ledger(folder, "here").run_id(name) == ids[name]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "wandb.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        Ledger(tmp_path, "here")
