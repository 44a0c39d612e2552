"""Several metrics at once: the trials that no other beats, the Pareto front."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

FRONT = "front"
"""The column of `outcomes` that says whether a trial lies on the front."""


def outcomes(reports: pd.DataFrame, trials: pd.DataFrame, modes: Mapping[str, str]) -> pd.DataFrame:
    """What each trial that did not fail reached with its last report, which is what the searcher was told.

    One row per trial with a finite value of every metric of `modes` (metric -> `max` or `min`): `number`, `state`,
    `epoch`, the metrics, and `front`: whether it was trained to its end, and no other such trial is as good in all
    metrics and better in one. A trial that was stopped early is not on the front: it was never meant to be used.
    """
    columns = ["number", "state", "epoch", *modes]
    if not set(columns) <= set(reports):
        return pd.DataFrame(columns=[*columns, FRONT])
    ended = trials.loc[trials["state"] != "FAILED", "trial_id"]
    last = reports[reports["trial_id"].isin(ended)].groupby("number").tail(1)[columns].dropna()
    whole = last["state"] == "FINISHED"
    signs = np.array([-1.0 if mode == "max" else 1.0 for mode in modes.values()])
    on_front = whole.to_numpy(copy=True)
    on_front[on_front] = pareto_front(last.loc[whole, list(modes)].to_numpy(dtype=float) * signs)
    return last.assign(**{FRONT: on_front}).reset_index(drop=True)


def pareto_front(costs: np.ndarray) -> np.ndarray:
    """Which rows no other row dominates: (points, objectives), lower is better -> (points,) of bool; equals stay.

    A row is dominated where another is as low in all objectives and lower in one (Deb, Multi-Objective Optimization
    Using Evolutionary Algorithms, 2001, section 2.4.2).
    """
    found = np.zeros(len(costs), dtype=bool)
    kept = np.empty((0, costs.shape[1]))
    for row in np.lexsort(costs.T[::-1]):
        no_worse, better = (kept <= costs[row]).all(axis=1), (kept < costs[row]).any(axis=1)
        found[row] = not (no_worse & better).any()
        kept = np.vstack([kept, costs[row]]) if found[row] else kept
    return found
