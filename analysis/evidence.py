"""How sure it is that one search found better configs than another.

Of one search each, the trials are resampled: trials are what a search draws, and a draw is what luck decides. The
best of n trials drawn with replacement from n is a bootstrap whose distribution is known without drawing
(`best_of_resamples`; Dodge et al., arXiv 1909.03004, section 3, give the expectation of the same distribution). It
never exceeds the best that was seen, and with 63 % is that itself (Lourie et al., arXiv 2311.09480, on what such
intervals can and cannot say): so it tells how much hangs on a few lucky trials, and nothing of what another seed would
have given. For that, searches are repeated with further seeds, and compared seed by seed.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9_999
SURE = 0.975
"""Share of resamples from which on one of two searches is called better: both ends of a 95 % interval."""
HINT = 0.8
"""Share of resamples from which on it is called ahead."""
FEWEST_TRIALS = 10
"""With fewer trials that have a value a resample is hardly ever another sample, and agrees with itself."""
ALPHA = 0.05
SEEDS_FOR_A_TEST = 6
"""The fewest pairs of which a two-sided Wilcoxon test can give less than `ALPHA`: 2 / 2**6."""
SEEDS_FOR_A_HINT = 3
"""The fewest seeds that, all of one opinion, are called a hint."""

Sure = Literal["yes", "hint", "no"]


@dataclass(frozen=True)
class Seeds:
    """Best values of a group's searches, with the seed of each."""

    values: tuple[tuple[int | None, float], ...]

    @property
    def mean(self) -> float:
        """NaN without a value."""
        known = self.known
        return float(known.mean()) if len(known) else np.nan

    @property
    def known(self) -> np.ndarray:
        """The values that there are."""
        return np.array([value for _, value in self.values if not np.isnan(value)])

    @property
    def by_seed(self) -> dict[int, float]:
        """The mean value of each seed."""
        seeds = dict.fromkeys(seed for seed, value in self.values if seed is not None and not np.isnan(value))
        return {seed: float(np.mean([v for s, v in self.values if s == seed and not np.isnan(v)])) for seed in seeds}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One search, or group of searches, against another that came out worse."""

    better: str
    worse: str
    value: float
    """Of the better one: its best value, or the mean of the best values over its seeds."""
    other: float
    """The same of the worse one."""
    sure: Sure
    method: Literal["trials", "paired", "unpaired"]
    """What was resampled: the trials of one search each, the differences of pairs of one seed, or the seeds of each."""
    trials: int = 0
    """Of `trials`: how many have a value, in the search that has fewer."""
    agreeing: float = np.nan
    """Of `trials`: the share of resamples in which the better one is better still."""
    low: float = np.nan
    """Of seeds: lower end of the interval of the mean difference, in favour of the better one."""
    high: float = np.nan
    """Of seeds: its upper end."""
    p_value: float = np.nan
    """Of seeds: of the Wilcoxon signed-rank test of pairs, else of Mann and Whitney's, times the pairs of groups."""
    seeds: int = 0
    """Of seeds: how many pairs, or how many searches the smaller group has."""
    wins: int = 0
    """Of pairs: how many the better one won."""


def best_of_resamples(values: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """The values that the best of n trials drawn with replacement from these n can have, and their probabilities.

    The best value first. P(the best is among the k best trials) = 1 - (1 - k/n)^n, exactly. A trial of NaN can be
    drawn, too: what is missing in the sum of the probabilities is that of a resample without any value.
    """
    known = np.sort(values[~np.isnan(values)])
    known = known[::-1] if mode == "max" else known
    ranks = np.arange(len(known) + 1)
    reached = (1 - ranks / max(1, len(values))) ** max(1, len(values))
    return known, -np.diff(reached)


def interval(values: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
    """The ends, the smaller first, between which the best of a resample lies with 95 %; NaN without a value."""
    if not len(values):
        return np.nan, np.nan
    reached = np.cumsum(shares)
    ends = [values[min(len(values) - 1, int(np.searchsorted(reached, tail)))] for tail in (1 - SURE, SURE)]
    return float(min(ends)), float(max(ends))


def by_trials(better: str, values: np.ndarray, worse: str, others: np.ndarray, mode: str) -> Evidence:
    """Two searches by resampling the trials of each: in which share of the resamples the better one stays better."""
    sign = 1.0 if mode == "max" else -1.0
    best, shares = best_of_resamples(sign * values, "max")
    other, other_shares = best_of_resamples(sign * others, "max")
    rising = np.cumsum(np.concatenate([[1 - other_shares.sum()], other_shares[::-1]]))
    trials = min(len(best), len(other))
    agreeing = float((shares * rising[np.searchsorted(other[::-1], best, side="left")]).sum()) if len(best) else 0.0
    return Evidence(
        better=better,
        worse=worse,
        value=float(sign * best[0]) if len(best) else np.nan,
        other=float(sign * other[0]) if len(other) else np.nan,
        sure="no" if trials < FEWEST_TRIALS else "yes" if agreeing >= SURE else "hint" if agreeing >= HINT else "no",
        method="trials",
        trials=trials,
        agreeing=agreeing,
    )


def by_seed(better: str, values: Seeds, worse: str, others: Seeds, mode: str, pairs: int) -> Evidence:
    """Two groups of searches: pairs of the same seed where they share two or more, else all against all.

    `pairs` is how many pairs of groups could be compared; each p-value is multiplied by it (Bonferroni).
    """
    sign = 1.0 if mode == "max" else -1.0
    shared = [seed for seed in values.by_seed if seed in others.by_seed]
    if len(shared) < 2:
        return _unpaired(better, values, worse, others, sign, pairs)
    differences = sign * np.array([values.by_seed[seed] - others.by_seed[seed] for seed in shared])
    p_value = 1.0 if not differences.any() else float(stats.wilcoxon(differences, method="auto").pvalue)
    p_value = min(1.0, pairs * p_value)
    wins = int((differences > 0).sum())
    low, high = _mean_interval(differences)
    hint = wins == len(shared) >= SEEDS_FOR_A_HINT
    return Evidence(
        better=better,
        worse=worse,
        value=float(np.mean([values.by_seed[seed] for seed in shared])),
        other=float(np.mean([others.by_seed[seed] for seed in shared])),
        sure="yes" if p_value < ALPHA else "hint" if hint else "no",
        method="paired",
        p_value=p_value,
        seeds=len(shared),
        wins=wins,
        low=low,
        high=high,
    )


def _unpaired(better: str, values: Seeds, worse: str, others: Seeds, sign: float, pairs: int) -> Evidence:
    ours, theirs = sign * values.known, sign * others.known
    usable = len(ours) > 1 and len(theirs) > 1
    low, high = _mean_interval(ours, theirs) if usable else (np.nan, np.nan)
    hint = usable and ours.min() > theirs.max() and min(len(ours), len(theirs)) >= SEEDS_FOR_A_HINT
    p_value = min(1.0, pairs * float(stats.mannwhitneyu(ours, theirs).pvalue)) if usable else 1.0
    return Evidence(
        better=better,
        worse=worse,
        value=values.mean,
        other=others.mean,
        sure="yes" if p_value < ALPHA else "hint" if hint else "no",
        method="unpaired",
        p_value=p_value,
        seeds=min(len(ours), len(theirs)),
        low=low,
        high=high,
    )


def _mean_interval(*samples: np.ndarray) -> tuple[float, float]:
    """Interval of the mean of one sample, or of the difference of the means of two, by resampling each."""

    def mean(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        means = [sample.mean(axis=axis) for sample in drawn]
        return means[0] - means[1] if len(means) > 1 else means[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            samples,
            mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(0),
        ).confidence_interval
    return float(found.low), float(found.high)
