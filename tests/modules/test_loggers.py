"""Our modules log the same names and values through whatever logger the Trainer has; none is W&B's alone."""

from __future__ import annotations

import csv
import math

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from wandb_server import ENTITY, KEY, Server, serving

from trainoff.datamodules import Diabetes, Digits
from trainoff.modules import Classifier, Regressor

METRICS = {"classifier": ("accuracy",), "regressor": ("mse", "mae", "r2")}
NAMES = {
    kind: {"train/loss", "train/loss_step"} | {f"{split}/{m}" for split in ("val", "test") for m in ("loss", *metrics)}
    for kind, metrics in METRICS.items()
}


def fit(kind, logger):
    """Two epochs and the test, from one seed."""
    L.seed_everything(3)
    module = Classifier("linear", recipe="adamw") if kind == "classifier" else Regressor("linear", recipe="adamw")
    data = Digits() if kind == "classifier" else Diabetes()
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=2, logger=logger, log_every_n_steps=1, accelerator="cpu", devices=1, **quiet)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)


def with_csv(kind, folder):
    logger = CSVLogger(folder)
    fit(kind, logger)
    with open(f"{logger.log_dir}/metrics.csv") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def with_tensorboard(kind, folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(folder)
    fit(kind, logger)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    return [{tag: event.value} for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]


@pytest.fixture(scope="module")
def server():
    """One for all: in one process the client keeps to the first server that it was told of."""
    import wandb

    given = Server()
    with serving(given) as url, pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false",
                            "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}.items():  # fmt: skip
            patch.setenv(name, value)
        yield given
        wandb.teardown()


def with_wandb(kind, folder, server):
    logger = WandbLogger(project=kind, entity=ENTITY, save_dir=folder)
    fit(kind, logger)
    logger.experiment.finish()
    (run,) = server.runs[kind].values()
    return [{key: value for key, value in row.items() if key != "_step"} for row in run.history]


def values(rows, name):
    return [row[name] for row in rows if name in row]


@pytest.mark.parametrize("kind", NAMES)
def test_names_and_values_are_the_same_through_any_logger(kind, tmp_path, server):
    logged = {
        "csv": with_csv(kind, tmp_path / "csv"),
        "tensorboard": with_tensorboard(kind, tmp_path / "tensorboard"),
        "wandb": with_wandb(kind, tmp_path, server),
    }
    for name in NAMES[kind]:
        found = {logger: values(rows, name) for logger, rows in logged.items()}
        epochs = {"test": 1, "val": 2, "train": 2}[name.split("/")[0]]
        assert len(found["csv"]) == epochs or (name == "train/loss_step" and len(found["csv"]) > epochs)
        assert all(map(math.isfinite, found["csv"]))
        for logger in ("tensorboard", "wandb"):
            assert found[logger] == pytest.approx(found["csv"], rel=1e-6), (logger, name)
    for rows in logged.values():
        names = {key for row in rows for key in row if "/" in key}
        assert names - {"trainer/global_step"} == NAMES[kind]  # which Lightning's own logger adds
