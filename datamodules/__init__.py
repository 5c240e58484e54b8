"""What is trained on: DataModules that hold their set in memory and slice batches from it.

All names are imported when they are first used; importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainoff.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from trainoff.datamodules.alteration_registry import ALTERATIONS
    from trainoff.datamodules.altered import Altered
    from trainoff.datamodules.fashion_mnist import FashionMNIST
    from trainoff.datamodules.gaussian_mixture import GaussianMixture
    from trainoff.datamodules.in_memory import InMemoryDataModule
    from trainoff.datamodules.mnist1d import MNIST1D
    from trainoff.datamodules.modular_arithmetic import ModularArithmetic
    from trainoff.datamodules.planar_points import Spirals, TwoMoons
    from trainoff.datamodules.quadratic import Quadratic
    from trainoff.datamodules.registry import DATAMODULES, DataModuleEntry
    from trainoff.datamodules.scikit_learn import BreastCancer, Diabetes, Digits, Iris, Wine
    from trainoff.datamodules.splits import RawData
    from trainoff.datamodules.teacher_student import TeacherStudent
    from trainoff.datamodules.tensor_batches import TensorBatches
    from trainoff.datamodules.tensor_datamodule import TensorDataModule

__all__ = [
    "ALTERATIONS",
    "DATAMODULES",
    "MNIST1D",
    "Altered",
    "BreastCancer",
    "DataModuleEntry",
    "Diabetes",
    "Digits",
    "FashionMNIST",
    "GaussianMixture",
    "InMemoryDataModule",
    "Iris",
    "ModularArithmetic",
    "Quadratic",
    "RawData",
    "Spirals",
    "TeacherStudent",
    "TensorBatches",
    "TensorDataModule",
    "TwoMoons",
    "Wine",
]

_HOMES = {
    "ALTERATIONS": "alteration_registry",
    "DATAMODULES": "registry",
    "MNIST1D": "mnist1d",
    "Altered": "altered",
    "BreastCancer": "scikit_learn",
    "DataModuleEntry": "registry",
    "Diabetes": "scikit_learn",
    "Digits": "scikit_learn",
    "FashionMNIST": "fashion_mnist",
    "GaussianMixture": "gaussian_mixture",
    "InMemoryDataModule": "in_memory",
    "Iris": "scikit_learn",
    "ModularArithmetic": "modular_arithmetic",
    "Quadratic": "quadratic",
    "RawData": "splits",
    "Spirals": "planar_points",
    "TeacherStudent": "teacher_student",
    "TensorBatches": "tensor_batches",
    "TensorDataModule": "tensor_datamodule",
    "TwoMoons": "planar_points",
    "Wine": "scikit_learn",
}


__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
