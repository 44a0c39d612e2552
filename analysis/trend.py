"""How a value depends on one hyperparameter, and how sure that is."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TRIALS = 300
"""Most trials that a smooth trend is fitted to; its time grows with their cube."""
POINTS = 60
CERTAIN = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""
FEWEST_PER_GROUP = 3
SEED = 0


@dataclass(frozen=True)
class Trend:
    """A mean along an axis, and the interval that holds it with 95 % certainty."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def smooth(x: Sequence[float], y: Sequence[float]) -> Trend:
    """A Gaussian process through `y` over `x` (0 to 1, on the hyperparameter's own scale), in the order of x.

    Kernel: an unknown height, a squared exponential whose length is between a tenth of the range and three of it, and
    noise, by maximal marginal likelihood (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
    sections 2.2 and 5.4.1). The interval is that of the function: the noise of single trials is taken out. Of more than
    `TRIALS` trials a random sample is taken.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    from threadpoolctl import threadpool_limits

    at, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(at) > TRIALS:
        sample = np.random.default_rng(SEED).choice(len(at), TRIALS, replace=False)
        at, values = at[sample], values[sample]
    bend = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(0.3, (0.1, 3.0))
    kernel = ConstantKernel(1.0, "fixed") + bend + WhiteKernel(0.3, (1e-4, 1e1))
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    grid = np.linspace(at.min(), at.max(), POINTS)
    with warnings.catch_warnings(), threadpool_limits(1):  # on matrices this small threads only wait for each other
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(at[:, None], values)
        mean, deviation = process.predict(grid[:, None], return_std=True)
    noise = process.kernel_.k2.noise_level * values.std() ** 2
    band = CERTAIN * np.sqrt(np.maximum(deviation**2 - noise, 0.0))
    return Trend(grid, mean, mean - band, mean + band)


def means(groups: Sequence[int], y: Sequence[float]) -> Trend:
    """The mean of each group of at least `FEWEST_PER_GROUP` values at the group's number, with Student's interval."""
    from scipy.stats import t

    of, values = np.asarray(groups), np.asarray(y, dtype=float)
    large = [group for group in np.unique(of) if (of == group).sum() >= FEWEST_PER_GROUP]
    members = [values[of == group] for group in large]
    middle = np.asarray([one.mean() for one in members])
    half = np.asarray([t.ppf(0.975, len(one) - 1) * one.std(ddof=1) / np.sqrt(len(one)) for one in members])
    return Trend(np.asarray(large, dtype=float), middle, middle - half, middle + half)
