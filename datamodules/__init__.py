"""What is trained on: DataModules that hold their set in memory and slice batches from it.

All names are imported when they are first used; importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainoff.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from trainoff.datamodules.alteration_registry import ALTERATIONS
    from trainoff.datamodules.altered import Altered
    from trainoff.datamodules.cifar import CIFAR10, CIFAR100
    from trainoff.datamodules.facts.entry import DataModuleEntry
    from trainoff.datamodules.fashion_mnist import FashionMNIST
    from trainoff.datamodules.gaussian_mixture import GaussianMixture
    from trainoff.datamodules.hub_images import HubImages
    from trainoff.datamodules.hub_text import HubText, TinyShakespeare, WikiText2
    from trainoff.datamodules.image_datamodule import ImageDataModule
    from trainoff.datamodules.image_folder import ImageFolder
    from trainoff.datamodules.in_memory import InMemoryDataModule
    from trainoff.datamodules.melodies import Melodies
    from trainoff.datamodules.mnist import MNIST
    from trainoff.datamodules.mnist1d import MNIST1D
    from trainoff.datamodules.modular_arithmetic import ModularArithmetic
    from trainoff.datamodules.pairs_datamodule import PairsDataModule
    from trainoff.datamodules.pairs_files import HubTranslation, PairsFile
    from trainoff.datamodules.parquet_stream import ParquetStream
    from trainoff.datamodules.planar_points import Spirals, TwoMoons
    from trainoff.datamodules.quadratic import Quadratic
    from trainoff.datamodules.registry import DATAMODULES
    from trainoff.datamodules.scikit_learn import BreastCancer, Diabetes, Digits, Iris, Wine
    from trainoff.datamodules.splits import RawData
    from trainoff.datamodules.synthetic_pairs import SyntheticPairs
    from trainoff.datamodules.table import Table
    from trainoff.datamodules.task_sequence import TaskSequence
    from trainoff.datamodules.teacher_student import TeacherStudent
    from trainoff.datamodules.tensor_batches import TensorBatches
    from trainoff.datamodules.tensor_datamodule import TensorDataModule
    from trainoff.datamodules.text import Text
    from trainoff.datamodules.time_series import TimeSeries
    from trainoff.datamodules.token_datamodule import TokenDataModule

__all__ = [
    "ALTERATIONS",
    "CIFAR10",
    "CIFAR100",
    "DATAMODULES",
    "MNIST",
    "MNIST1D",
    "Altered",
    "BreastCancer",
    "DataModuleEntry",
    "Diabetes",
    "Digits",
    "FashionMNIST",
    "GaussianMixture",
    "HubImages",
    "HubText",
    "HubTranslation",
    "ImageDataModule",
    "ImageFolder",
    "InMemoryDataModule",
    "Iris",
    "Melodies",
    "ModularArithmetic",
    "PairsDataModule",
    "PairsFile",
    "ParquetStream",
    "Quadratic",
    "RawData",
    "Spirals",
    "SyntheticPairs",
    "Table",
    "TaskSequence",
    "TeacherStudent",
    "TensorBatches",
    "TensorDataModule",
    "Text",
    "TimeSeries",
    "TinyShakespeare",
    "TokenDataModule",
    "TwoMoons",
    "WikiText2",
    "Wine",
]

_HOMES = {
    "Melodies": "melodies",
    "TimeSeries": "time_series",
    "ParquetStream": "parquet_stream",
    "Table": "table",
    "TaskSequence": "task_sequence",
    "HubTranslation": "pairs_files",
    "PairsFile": "pairs_files",
    "TinyShakespeare": "hub_text",
    "WikiText2": "hub_text",
    "HubText": "hub_text",
    "ALTERATIONS": "alteration_registry",
    "DATAMODULES": "registry",
    "MNIST1D": "mnist1d",
    "Altered": "altered",
    "BreastCancer": "scikit_learn",
    "DataModuleEntry": "facts.entry",
    "Diabetes": "scikit_learn",
    "Digits": "scikit_learn",
    "FashionMNIST": "fashion_mnist",
    "GaussianMixture": "gaussian_mixture",
    "InMemoryDataModule": "in_memory",
    "Iris": "scikit_learn",
    "ModularArithmetic": "modular_arithmetic",
    "Quadratic": "quadratic",
    "RawData": "splits",
    "CIFAR10": "cifar",
    "CIFAR100": "cifar",
    "HubImages": "hub_images",
    "ImageDataModule": "image_datamodule",
    "ImageFolder": "image_folder",
    "MNIST": "mnist",
    "TensorBatches": "tensor_batches",
    "TensorDataModule": "tensor_datamodule",
    "PairsDataModule": "pairs_datamodule",
    "SyntheticPairs": "synthetic_pairs",
    "Text": "text",
    "TokenDataModule": "token_datamodule",
    "Spirals": "planar_points",
    "TeacherStudent": "teacher_student",
    "TwoMoons": "planar_points",
    "Wine": "scikit_learn",
}


__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
