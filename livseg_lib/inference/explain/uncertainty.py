"""How unsure an answer is: over variants of one picture, or over several networks.

The spread of what was asked, not the chance of an error: what all networks have learnt wrongly they are sure
of together (Gal and Ghahramani 2016, arXiv:1506.02142; Lakshminarayanan et al. 2017, arXiv:1612.01474;
test-time augmentation: Wang et al. 2019, arXiv:1807.07356).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.inference.agreement import predictive_entropy
from livseg_lib.inference.augmented import Predict, choose_variants, predict_variants


@dataclass(frozen=True)
class Uncertainty:
    """Maps float32 of the answers' shape, (..., H, W, K)."""

    mean: np.ndarray
    """Probability, 0 to 1."""
    deviation: np.ndarray
    """Standard deviation of the answers, 0 to 0.5: 0 where all say the same."""

    @property
    def entropy(self) -> np.ndarray:
        """Predictive entropy of the mean, in bits, 0 to 1: also where one answer by itself is undecided."""
        return predictive_entropy(self.mean)


def over_variants(predict: Predict, images: np.ndarray, names: Sequence[str]) -> Uncertainty:
    """Spread over the variants called `names` and the picture as it is (`augmented.VARIANTS`).

    images: float32 (..., H, W, C) in [0, 1]. At the border only those variants count that reach there.
    Raises InputError for an unknown name.
    """
    return _spread(predict_variants(predict, images, choose_variants(names)))


def over_models(answers: Iterable[np.ndarray]) -> Uncertainty:
    """Spread over the answers of several networks to one picture, float (..., H, W, K); one at a time in
    memory. What leaves 0 to 1 is clipped. Raises InputError where there is none."""
    return _spread((np.clip(answer, 0, 1), np.ones((1, 1, 1), np.float32)) for answer in answers)


def _spread(answers: Iterable[tuple[np.ndarray, np.ndarray]]) -> Uncertainty:
    """Of (answer, weight): the answer is 0 where its weight is.

    Deviations are summed around the first answer, so that no digits are lost where all are nearly equal.
    """
    first, total, squares, weights = None, 0.0, 0.0, 0.0
    for answer, weight in answers:
        first = answer if first is None else first
        difference = answer - weight * first
        total, weights = total + difference, weights + weight
        squares = squares + np.divide(difference**2, weight, out=np.zeros_like(difference), where=weight > 0)
    if first is None:
        raise InputError("networks", "are none, so that nothing can be compared.", "Give at least one.")
    shift = total / weights
    variance = np.maximum(squares / weights - shift**2, 0)
    return Uncertainty(np.float32(first + shift), np.sqrt(variance, dtype=np.float32))
