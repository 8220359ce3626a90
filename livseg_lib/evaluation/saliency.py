"""What a map over a picture is worth: near to another map, in the truth, a warning of errors?"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from sklearn.metrics import roc_auc_score

from livseg_lib.evaluation.masks import require_same_shape


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two maps of one shape, -1 to 1; NaN where one is the same everywhere.

    The similarity of Adebayo et al. 2018 (arXiv:1810.03292).
    """
    require_same_shape(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(spearmanr(first, second, axis=None).statistic)


def map_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM of two maps 0 to 1, (H, W); 1 where they are equal, NaN where one is the same everywhere.

    Wang et al. 2004 (doi:10.1109/TIP.2003.819861).
    """
    require_same_shape(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(structural_similarity(first, second, data_range=1.0))


def pointing_hit(heat: np.ndarray, truth: np.ndarray) -> float:
    """1.0 where the highest place of `heat` lies in `truth`, else 0.0 (pointing game, Zhang et al. 2016,
    arXiv:1608.00507); of several highest places the share in it.

    NaN where the truth is empty or `heat` the same everywhere.
    """
    require_same_shape(heat, truth)
    if not truth.any() or np.ptp(heat) == 0:
        return np.nan
    return float(truth[heat == heat.max()].mean())


def energy_share(heat: np.ndarray, truth: np.ndarray) -> float:
    """Share of the sum of `heat`, which is nowhere negative, in `truth`, 0 to 1 (Wang et al. 2020,
    arXiv:1910.01279).

    NaN where the truth is empty or `heat` 0 everywhere.
    """
    require_same_shape(heat, truth)
    total = heat.sum(dtype=float)
    return float(heat[truth].sum(dtype=float) / total) if truth.any() and total > 0 else np.nan


def warning_auc(warning: np.ndarray, wrong: np.ndarray) -> float:
    """ROC-AUC of `warning`, floats, for what is `wrong`, bool of its shape: 0.5 is chance.

    NaN where all is wrong or nothing is.
    """
    require_same_shape(warning, wrong)
    if wrong.all() or not wrong.any():
        return np.nan
    return float(roc_auc_score(wrong.ravel(), warning.ravel()))
