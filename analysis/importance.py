"""How much of the trials' values each hyperparameter explains, as Optuna computes it."""

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from analysis.comparable import FEWEST, Comparable
from analysis.frames import Experiment

if TYPE_CHECKING:
    from optuna import Study

FANOVA_TRIALS = 128
"""Most trials that fANOVA looks at: its time grows faster than their number."""
PED_ANOVA_TRIALS = 1_000
TREES = 16
SEED = 0


@dataclass(frozen=True)
class Importances:
    """What two evaluators of Optuna make of the same trials."""

    shares: pd.DataFrame
    """A row per hyperparameter, the most important first; columns `fANOVA` and `PED-ANOVA`, each of which sums to 1."""
    caption: str
    """What the numbers are, and what they rest on."""


def importances(experiment: Experiment, measured: Comparable | None) -> Importances | None:
    """How important each varied hyperparameter is among trials that may be compared (`analysis.comparable`).

    fANOVA (Hutter et al., ICML 2014): its share of the variance of the values over the whole space, by a random forest.
    PED-ANOVA (Watanabe et al., arXiv 2304.10255): how much it tells the best tenth of the trials from all of them. Of
    more trials than an evaluator can take, a random sample is looked at. None without comparable trials, where fewer
    than two hyperparameters vary among them, or where all have the same value.
    """
    if measured is None or measured.trials["value"].nunique() < 2:
        return None
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    evaluators = {
        "fANOVA": (FanovaImportanceEvaluator(n_trees=TREES, seed=SEED), FANOVA_TRIALS),
        "PED-ANOVA": (PedAnovaImportanceEvaluator(), PED_ANOVA_TRIALS),
    }
    shares, counts = {}, {}
    for name, (evaluator, limit) in evaluators.items():
        study, counts[name] = _study(experiment, measured, limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = get_param_importances(study, evaluator=evaluator)
        shares[name] = {key: float(value) for key, value in found.items()}
    frame = pd.DataFrame(shares).fillna(0.0)
    ordered = frame.loc[frame.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    told = len(frame) > 1 and math.isfinite(frame.to_numpy().sum())
    return Importances(ordered, _caption(measured, counts, optuna.__version__)) if told else None


def _study(experiment: Experiment, measured: Comparable, limit: int) -> tuple["Study", int]:
    """A random sample of the trials, each complete with its value, and how many they are."""
    import optuna

    from analysis.study import distributions_of, params_of, study_with

    trials = measured.trials
    sample = trials if len(trials) <= limit else trials.sample(limit, random_state=SEED)
    distributions = distributions_of(experiment)
    frozen = []
    for row in sample.to_dict("records"):
        params = params_of(row, distributions)
        known = {name: distributions[name] for name in params}
        frozen.append(optuna.create_trial(value=row["value"], params=params, distributions=known))
    return study_with(frozen, experiment.name, [experiment.mode]), len(sample)


def _caption(measured: Comparable, counts: dict[str, int], version: str) -> str:
    fewer = [f"{name} on {count:,} of them" for name, count in counts.items() if count < len(measured.trials)]
    sampled = f" ({', '.join(fewer)}, drawn at random)" if fewer else ""
    return (
        f"fANOVA (Optuna {version}, FanovaImportanceEvaluator, {TREES} trees, seed {SEED}): the share of the spread "
        "that each explains. PED-ANOVA (PedAnovaImportanceEvaluator, which draws nothing): how much each tells the "
        f"best tenth from the rest. Both rest on {measured.share}, those {measured.words}{sampled}."
        + (" So few trials give rough numbers." if len(measured.trials) < 4 * FEWEST else "")
    )
