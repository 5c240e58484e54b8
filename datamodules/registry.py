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
        goal: What is learned, where that is neither classification nor regression.
    """

    num_samples: int = 0
    input_shape: tuple[int, ...] = ()
    num_classes: int | None = None
    licence: str = ""
    size_bytes: int = 0
    goal: str = ""

    @property
    def citation(self) -> str:
        """What to cite: author, year, title."""
        return self.paper

    @property
    def details(self) -> str:
        """Shape, classes, samples, size, licence, citation, in one line; what the user's file decides is left out."""
        what = f"{self.num_classes} classes" if self.num_classes else self.task
        facts = [f"inputs {self.input_shape}, {what}"] if self.input_shape else []
        facts += [f"{self.num_samples:,} samples"] if self.num_samples else []
        facts += [_size(self.size_bytes)] if self.size_bytes else []
        return "; ".join(filter(None, [", ".join(facts), self.licence, self.paper]))

    @property
    def task(self) -> str:
        """``"classification"``, ``"regression"``, ``"language modelling"`` or ``"sequence to sequence"``."""
        return self.goal or ("regression" if self.num_classes is None else "classification")


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


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
TEXT = DataModuleEntry(
    name="text",
    target="trainoff.datamodules.text:Text",
    summary="any text file by path, or generated sentences of known entropy (no download)",
    paper="Shannon 1948, A mathematical theory of communication (a source as in section 2 writes it)",
    num_samples=3123,
    input_shape=(128,),
    licence="none needed: generated",
    size_bytes=400_000,
    goal="language modelling",
)
PAIRS = DataModuleEntry(
    name="pairs",
    target="trainoff.datamodules.synthetic_pairs:SyntheticPairs",
    summary="pairs of strings: reverse, sort, or dates in five forms (generated, no download)",
    paper="none needed: generated",
    num_samples=10_000,
    input_shape=(12,),
    licence="none needed: generated",
    size_bytes=162_000,
    goal="sequence to sequence",
)

MNIST = DataModuleEntry(
    name="mnist",
    target="trainoff.datamodules.mnist:MNIST",
    summary="handwritten digits, 28x28 grey images (idx files or the hub)",
    paper="LeCun, Cortes and Burges, The MNIST database of handwritten digits; LeCun, Bottou, Bengio and Haffner "
    "1998, Gradient-based learning applied to document recognition, Proceedings of the IEEE 86(11)",
    num_samples=70_000,
    input_shape=(1, 28, 28),
    num_classes=10,
    licence="none stated by its authors' page; the hub's copy says MIT",
    size_bytes=11_594_722,
)
CIFAR10 = DataModuleEntry(
    name="cifar10",
    target="trainoff.datamodules.cifar:CIFAR10",
    summary="small colour images of 10 kinds of things, 32x32 (the binary version's files or the hub)",
    paper="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, technical report, Toronto",
    num_samples=60_000,
    input_shape=(3, 32, 32),
    num_classes=10,
    licence="none stated by its author",
    size_bytes=170_052_171,
)
CIFAR100 = DataModuleEntry(
    name="cifar100",
    target="trainoff.datamodules.cifar:CIFAR100",
    summary="small colour images of 100 kinds of things, 32x32 (the binary version's files or the hub)",
    paper="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, technical report, Toronto",
    num_samples=60_000,
    input_shape=(3, 32, 32),
    num_classes=100,
    licence="none stated by its author",
    size_bytes=168_513_733,
)
HUB_IMAGES = DataModuleEntry(
    name="hub_images",
    target="trainoff.datamodules.hub_images:HubImages",
    summary="any image set of the Hugging Face hub, by its name",
    licence="that of the set: see its page on the hub",
)
IMAGE_FOLDER = DataModuleEntry(
    name="image_folder",
    target="trainoff.datamodules.image_folder:ImageFolder",
    summary="your own images: a folder for each class, within train/, val/ and test/ or without",
    licence="that of your images",
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
        TEXT,
        PAIRS,
        MNIST,
        CIFAR10,
        CIFAR100,
        HUB_IMAGES,
        IMAGE_FOLDER,
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
