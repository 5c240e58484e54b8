"""Suites on a disk, and what a folder holds."""

from __future__ import annotations

from running_suites import make_data

from trainoff.benchmarks.suite_yaml import dump_yaml

RECIPES = {"sgd": {"optimizer": {"name": "sgd", "lr": 0.1}, "batch": 64}}


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_suite(folder, name="s.yaml", *, recipe=RECIPES["sgd"], **others):
    path = folder / name
    path.write_text(dump_yaml(make_data({"sgd": recipe}, **others)))
    return path
