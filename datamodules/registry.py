"""The shipped data sets by name; the facts about each are in :mod:`trainoff.datamodules.facts`. Data only."""

from __future__ import annotations

from trainoff.datamodules.facts import generated_sets, image_sets, table_sets, token_sets
from trainoff.datamodules.facts.entry import DataModuleEntry
from trainoff.registry import Registry

DATAMODULES: Registry[DataModuleEntry] = Registry(
    "datamodule",
    [
        image_sets.DIGITS,
        table_sets.BREAST_CANCER,
        table_sets.WINE,
        table_sets.DIABETES,
        image_sets.FASHION_MNIST,
        generated_sets.MNIST1D,
        token_sets.TEXT,
        token_sets.PAIRS,
        token_sets.MELODIES,
        token_sets.HUB_TEXT,
        token_sets.WIKITEXT2,
        token_sets.TINY_SHAKESPEARE,
        token_sets.PAIRS_FILE,
        token_sets.HUB_TRANSLATION,
        image_sets.MNIST,
        image_sets.CIFAR10,
        image_sets.CIFAR100,
        image_sets.HUB_IMAGES,
        image_sets.IMAGE_FOLDER,
        table_sets.IRIS,
        table_sets.ALTERED,
        table_sets.TASK_SEQUENCE,
        table_sets.TABLE,
        table_sets.TIME_SERIES,
        table_sets.PARQUET_STREAM,
        generated_sets.TWO_MOONS,
        generated_sets.SPIRALS,
        generated_sets.GAUSSIAN_MIXTURE,
        generated_sets.TEACHER_STUDENT,
        generated_sets.MODULAR_ARITHMETIC,
        generated_sets.QUADRATIC,
    ],
    DataModuleEntry,
    "trainoff.datamodules",
)
