"""Which hyperparameters go with good trials: the share of the trials' ranks that each explains by itself."""

from dataclasses import dataclass

import pandas as pd
from scipy.special import chdtrc

from analysis.comparable import FEWEST
from analysis.frames import CONFIG, Experiment
from analysis.hyperparameters import Hyperparameter

_GROUPS = 4
_PROBABILITY = 0.05


@dataclass(frozen=True)
class Association:
    """One hyperparameter's."""

    name: str
    share: float
    """Of the variance of the ranks, from 0 to 1, less what as many groups explain by chance (epsilon squared)."""
    stands_out: bool
    """Whether chance makes a share as large in less than 5 % of searches, the number of hyperparameters counted."""


@dataclass(frozen=True)
class Associations:
    """Of all hyperparameters, the largest share first."""

    trials: int
    epoch: int
    """At which the trials are compared."""
    found: tuple[Association, ...]


def associations(experiment: Experiment) -> Associations | None:
    """Compare the trials' metric at one epoch, which half of them reached; None where fewer than `FEWEST` did.

    A number is cut into up to four groups of as many trials each, so that an optimum inside the range counts too; the
    test is Kruskal and Wallis's (JASA 47, 1952), with Bonferroni's correction.
    """
    compared = experiment.with_configs(_compared(experiment))
    varied = [domain for domain in experiment.hyperparameters.values() if domain.varied]
    if len(compared) < FEWEST or not varied:
        return None
    ranks = compared[experiment.metric].rank()
    found = [_association(domain, compared[CONFIG + domain.name], ranks, len(varied)) for domain in varied]
    ordered = sorted(found, key=lambda one: (-one.share, one.name))
    return Associations(len(compared), int(compared["epoch"].iloc[0]), tuple(ordered))


def _compared(experiment: Experiment) -> pd.DataFrame:
    """The reports of one epoch: the last that at least half of the trials with a value reached."""
    reports, metric = experiment.reports, experiment.metric
    if metric not in reports:
        return reports.iloc[:0]
    usable = reports[(reports["state"] != "FAILED") & reports[metric].notna()]
    last = usable.groupby("number")["epoch"].max().sort_values(ascending=False)
    wanted = max(FEWEST, (len(last) + 1) // 2)
    return usable[usable["epoch"] == last.iloc[wanted - 1]] if len(last) >= wanted else usable.iloc[:0]


def _association(domain: Hyperparameter, values: pd.Series, ranks: pd.Series, tests: int) -> Association:
    groups = ranks.groupby(_grouped(domain, values))
    sizes, means = groups.size().to_numpy(), groups.mean().to_numpy()
    n, k = int(sizes.sum()), len(sizes)
    spread = float(((ranks - ranks.mean()) ** 2).sum())
    if k < 2 or k >= n or not spread:
        return Association(domain.name, 0.0, stands_out=False)
    explained = float((sizes * (means - ranks.mean()) ** 2).sum()) / spread
    share = max(0.0, 1 - (1 - explained) * (n - 1) / (n - k))
    probability = float(chdtrc(k - 1, (n - 1) * explained))
    return Association(domain.name, share, stands_out=probability * tests < _PROBABILITY)


def _grouped(domain: Hyperparameter, values: pd.Series) -> pd.Series:
    """The group of each trial: its value in a choice, else its quantile."""
    if domain.values and (not domain.ordered or len(domain.values) <= _GROUPS):
        return values.astype(str)
    groups = min(_GROUPS, len(values) // 4)
    return ((values.rank() - 1) * groups / len(values)).astype(int)
