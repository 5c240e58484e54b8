"""Facts about the generated sets of numbers."""

from __future__ import annotations

from trainoff.datamodules.facts.entry import DataModuleEntry

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
