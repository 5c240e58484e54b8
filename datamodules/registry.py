"""The shipped data sets by name, with the facts about each. Data only: no torch is imported."""

from __future__ import annotations

from dataclasses import dataclass

from trainoff.registry import Entry, Registry


@dataclass(frozen=True)
class DataModuleEntry(Entry):
    """One data set of the registry; ``paper`` holds what to cite.

    Args:
        num_samples: Samples over all splits.
        input_shape: The shape of one input, without the batch.
        num_classes: The number of classes; None for regression.
        licence: The licence of the data.
        size_bytes: Bytes of the source files as they are downloaded or installed (compressed where they are
            compressed); of the generated arrays where there are no files.
    """

    num_samples: int = 0
    input_shape: tuple[int, ...] = ()
    num_classes: int | None = None
    licence: str = ""
    size_bytes: int = 0

    @property
    def citation(self) -> str:
        """What to cite: author, year, title."""
        return self.paper

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return "regression" if self.num_classes is None else "classification"


DIGITS = DataModuleEntry(
    name="digits",
    target="trainoff.datamodules.scikit_learn:Digits",
    summary="handwritten digits, 8x8 grey images (scikit-learn, no download)",
    paper="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI, doi:10.24432/C50P49",
    num_samples=1797,
    input_shape=(1, 8, 8),
    num_classes=10,
    licence="CC BY 4.0",
    size_bytes=57_523,
)
BREAST_CANCER = DataModuleEntry(
    name="breast_cancer",
    target="trainoff.datamodules.scikit_learn:BreastCancer",
    summary="breast cancer Wisconsin (diagnostic), 30 features (scikit-learn, no download)",
    paper="Wolberg, Mangasarian, Street and Street 1993, Breast Cancer Wisconsin (Diagnostic), UCI, "
    "doi:10.24432/C5DW2B",
    num_samples=569,
    input_shape=(30,),
    num_classes=2,
    licence="CC BY 4.0",
    size_bytes=119_913,
)
WINE = DataModuleEntry(
    name="wine",
    target="trainoff.datamodules.scikit_learn:Wine",
    summary="chemical analyses of wines from three cultivars, 13 features (scikit-learn, no download)",
    paper="Aeberhard and Forina 1992, Wine, UCI, doi:10.24432/C5PC7J",
    num_samples=178,
    input_shape=(13,),
    num_classes=3,
    licence="CC BY 4.0",
    size_bytes=11_157,
)
DIABETES = DataModuleEntry(
    name="diabetes",
    target="trainoff.datamodules.scikit_learn:Diabetes",
    summary="progression of diabetes after one year from 10 features, regression (scikit-learn, no download)",
    paper="Efron, Hastie, Johnstone and Tibshirani 2004, Least Angle Regression, Annals of Statistics 32(2)",
    num_samples=442,
    input_shape=(10,),
    licence="none stated; distributed with scikit-learn (BSD-3-Clause)",
    size_bytes=8_123,
)
FASHION_MNIST = DataModuleEntry(
    name="fashion_mnist",
    target="trainoff.datamodules.fashion_mnist:FashionMNIST",
    summary="Zalando's articles of clothing, 28x28 grey images (a folder, a Debian package or the hub)",
    paper="Xiao, Rasul and Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747",
    num_samples=70_000,
    input_shape=(1, 28, 28),
    num_classes=10,
    licence="MIT",
    size_bytes=30_878_551,
)
MNIST1D = DataModuleEntry(
    name="mnist1d",
    target="trainoff.datamodules.mnist1d:MNIST1D",
    summary="digits as generated sequences of 40 numbers, easy to overfit (generated, no download)",
    paper="Greydanus and Kobak 2024, Scaling Down Deep Learning with MNIST-1D, arXiv:2011.14439",
    num_samples=5000,
    input_shape=(40,),
    num_classes=10,
    licence="Apache-2.0",
    size_bytes=1_640_000,
)
ALTERED = DataModuleEntry(
    name="altered",
    target="trainoff.datamodules.altered:Altered",
    summary="another set with noisy labels, a long tail, permuted pixels, ... (`trainoff list alterations`)",
    licence="that of the altered set",
)
IRIS = DataModuleEntry(
    name="iris",
    target="trainoff.datamodules.scikit_learn:Iris",
    summary="three species of iris by 4 lengths and widths (scikit-learn, no download)",
    paper="Fisher 1936, The use of multiple measurements in taxonomic problems; UCI, doi:10.24432/C56C76",
    num_samples=150,
    input_shape=(4,),
    num_classes=3,
    licence="CC BY 4.0",
    size_bytes=2_734,
)
TWO_MOONS = DataModuleEntry(
    name="two_moons",
    target="trainoff.datamodules.planar_points:TwoMoons",
    summary="points of two interleaved half circles (generated)",
    num_samples=1000,
    input_shape=(2,),
    num_classes=2,
    licence="none needed: generated",
    size_bytes=16_000,
)
SPIRALS = DataModuleEntry(
    name="spirals",
    target="trainoff.datamodules.planar_points:Spirals",
    summary="points of spirals around the origin, one a class (generated)",
    paper="Lang and Witbrock 1988, Learning to tell two spirals apart",
    num_samples=1000,
    input_shape=(2,),
    num_classes=2,
    licence="none needed: generated",
    size_bytes=16_000,
)
GAUSSIAN_MIXTURE = DataModuleEntry(
    name="gaussian_mixture",
    target="trainoff.datamodules.gaussian_mixture:GaussianMixture",
    summary="normal clouds, one a class, of known Bayes error (generated)",
    num_samples=2000,
    input_shape=(10,),
    num_classes=2,
    licence="none needed: generated",
    size_bytes=96_000,
)
TEACHER_STUDENT = DataModuleEntry(
    name="teacher_student",
    target="trainoff.datamodules.teacher_student:TeacherStudent",
    summary="the outputs of a random net at random inputs, regression (generated)",
    paper="Saad and Solla 1995, On-line learning in soft committee machines, Physical Review E 52",
    num_samples=2000,
    input_shape=(20,),
    licence="none needed: generated",
    size_bytes=168_000,
)
MODULAR_ARITHMETIC = DataModuleEntry(
    name="modular_arithmetic",
    target="trainoff.datamodules.modular_arithmetic:ModularArithmetic",
    summary="all pairs a + b mod p, as one-hot vectors or tokens: grokking (generated)",
    paper="Power et al. 2022, Grokking: generalization beyond overfitting on small algorithmic datasets, "
    "arXiv:2201.02177",
    num_samples=3481,
    input_shape=(2, 59),
    num_classes=59,
    licence="none needed: generated",
    size_bytes=1_670_880,
)
QUADRATIC = DataModuleEntry(
    name="quadratic",
    target="trainoff.datamodules.quadratic:Quadratic",
    summary="a quadratic of given condition number, as linear least squares (generated)",
    num_samples=100,
    input_shape=(20,),
    licence="none needed: generated",
    size_bytes=8_400,
)

DATAMODULES: Registry[DataModuleEntry] = Registry(
    "datamodule",
    [
        DIGITS,
        BREAST_CANCER,
        WINE,
        DIABETES,
        FASHION_MNIST,
        MNIST1D,
        IRIS,
        ALTERED,
        TWO_MOONS,
        SPIRALS,
        GAUSSIAN_MIXTURE,
        TEACHER_STUDENT,
        MODULAR_ARITHMETIC,
        QUADRATIC,
    ],
    DataModuleEntry,
    "trainoff.datamodules",
)
