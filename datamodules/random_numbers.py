"""Random numbers that never change for a given seed: for generated sets.

They are made of the numbers of :func:`trainoff.datamodules.splits.random_words`. Normal ones are rounded to float32:
logarithm and cosine may differ in the last bit of float64 between machines, which the rounding removes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from trainoff.datamodules.splits import random_words

Numbers = npt.NDArray[np.float64]


def uniforms(shape: tuple[int, ...], seed: int, purpose: str) -> Numbers:
    """Numbers between 0 and 1, neither included, odd multiples of 2⁻⁵⁴."""
    words = random_words(math.prod(shape), seed, purpose)
    numbers: Numbers = (words >> np.uint64(11)).astype(np.float64).reshape(shape)
    return (numbers + 0.5) * 2.0**-53


def normals(shape: tuple[int, ...], seed: int, purpose: str) -> Numbers:
    """Numbers from N(0, 1), of float32's precision, by the Box–Muller transform."""
    count = math.prod(shape)
    first, second = uniforms((2, -(-count // 2)), seed, purpose)
    radius = np.sqrt(-2 * np.log(first))
    pairs = np.concatenate([radius * np.cos(2 * np.pi * second), radius * np.sin(2 * np.pi * second)])
    return rounded(pairs[:count].reshape(shape))


def rounded(numbers: Numbers) -> Numbers:
    """The nearest float32 of each, as float64."""
    return numbers.astype(np.float32).astype(np.float64)
