"""Suites from text, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from trainoff.benchmarks.suite import load_suite
from trainoff.errors import UserError


@pytest.fixture
def load(tmp_path):
    """A suite from text; where a replacement is given, of that line in SUITE."""

    def load_(text):
        path = tmp_path / "s.yaml"
        path.write_text(text, encoding="utf-8")
        return load_suite(str(path))

    return load_


@pytest.fixture
def refusal(load, tmp_path):
    """The error of a suite text, without the folder that pytest made."""

    def refusal_(text):
        with pytest.raises(UserError) as caught:
            load(text)
        said = str(caught.value)
        assert "\n" not in said
        assert said.startswith(str(tmp_path))
        return said.removeprefix(f"{tmp_path}/")

    return refusal_
