"""A small suite, as a file's text and as plain data."""

from __future__ import annotations

TASK = """\
  t:
    module: {name: classifier, net: {name: mlp, hidden: [8]}}
    data: digits
    metric: accuracy
    budget: {epochs: 1}
"""
SUITE = f"""\
name: mine
tasks:
{TASK}recipes:
  a:
    optimizer: {{name: sgd, lr: 0.1}}
"""


def plain():
    return {
        "name": "mine",
        "summary": "",
        "seeds": {"tune": 1, "final": 2},
        "baseline": "a",
        "time_limit": 60,
        "tasks": {
            "t": {
                "module": {"name": "classifier", "net": {"name": "mlp", "hidden": [8]}},
                "data": {"name": "digits", "val_fraction": 0.2},
                "metric": "accuracy",
                "mode": "max",
                "target": 0.9,
                "budget": {"epochs": 1, "until": {"gradient_norm": 1e-3}},
            }
        },
        "recipes": {
            "a": {"optimizer": {"name": "sgd", "lr": {"tune": [0.1, 0.2]}}, "batch": 32},
            "b": {"base": "a", "schedule": {"name": "cosine", "warmup": 0.1}, "regularizers": ["l2"]},
        },
    }


def place(*path):
    return ".".join(map(str, path)) or "suite"
