"""What a search found in plain sentences, computed from the data alone."""

import math

import pandas as pd

from analysis.association import Association, associations
from analysis.certainty import images_behind, interval, lead_by_images, lead_by_seeds, rivals
from analysis.comparable import FEWEST
from analysis.frames import Experiment
from analysis.hyperparameters import words
from analysis.pareto import FRONT, outcomes
from analysis.summary import (
    STATE_WORDS,
    Edge,
    best_trial,
    config_of,
    count_states,
    edges,
    failures,
    listed,
    number,
    plural,
)

_MANY_FAILED = 0.3
"""From this share of failed trials on, they are the first thing to mend."""
_STILL_RISING = 0.01
"""What the best trial must have gained in its last quarter to be called unfinished, relative to its value."""


def verdict(experiment: Experiment) -> list[str]:
    """Three sentences: what is best, how sure that is, what mattered and what to try next.

    Where no trial has a value: that, the trials' fates, and why they failed.
    """
    best = best_trial(experiment.trials)
    if best is None:
        nothing = "No trial has a result yet." if experiment.state == "RUNNING" else "No trial gave a result."
        return [nothing, *_fates(experiment), *_failure_sentences(experiment)]
    return [_found(experiment, best), _sure(experiment, best), _mattered_and_next(experiment, best)]


def details(experiment: Experiment) -> list[str]:
    """What else there is to say: the test, a schedule, the trade-off, the trials' fates, the failures."""
    if best_trial(experiment.trials) is None:
        return []
    return [
        *_tested(experiment),
        *_scheduled(experiment),
        *_trade_off_sentences(experiment),
        *_fates(experiment),
        *_failure_sentences(experiment),
    ]


def _found(experiment: Experiment, best: pd.Series) -> str:
    chance = f", where guessing gives {experiment.chance:.3f}" if _is_beside_chance(experiment) else ""
    epochs = plural(int(experiment.manifest.get("max_epochs") or best["epochs"]), "epoch")
    config = config_of(best)
    varied = [name for name, domain in experiment.hyperparameters.items() if domain.varied and name in config]
    named = f" ({', '.join(f'{words(name)} {number(config[name])}' for name in varied)})" if varied else ""
    return (
        f"The best{' so far' if experiment.state == 'RUNNING' else ''} is trial {best['number']}{named}: "
        f"{words(experiment.metric)} {best['best_value']:.3f} after {best['best_epoch']:.0f} of {epochs}{chance}."
    )


def _is_beside_chance(experiment: Experiment) -> bool:
    return experiment.chance is not None and experiment.metric.endswith("accuracy")


def _sure(experiment: Experiment, best: pd.Series) -> str:
    images = images_behind(experiment.manifest, experiment.metric)
    confirmed = _confirmed(experiment)
    if confirmed:
        return confirmed
    if images is not None and _is_beside_chance(experiment):
        low, high = interval(float(best["best_value"]), images)
        if low <= (experiment.chance or 0.0):
            return (
                f"Whether that is more than guessing, nobody can tell: of {images:,} validation images, 95 % of "
                f"resamples give {low:.3f} to {high:.3f}."
            )
    ranked = experiment.trials[experiment.trials["rank"] > 1].sort_values("rank")
    if ranked.empty:
        return "No other trial has a value that it could be compared with."
    if images is None:
        return f"One seed each says little of how sure that is{_confirm_hint(experiment)}."
    return _by_images(experiment, best, ranked, images)


def _by_images(experiment: Experiment, best: pd.Series, ranked: pd.DataFrame, images: int) -> str:
    value, following = float(best["best_value"]), ranked.iloc[0]
    lead = lead_by_images(value, float(following["best_value"]), images)
    resamples = f"95 % of resamples of {images:,} validation images give {lead.low:.3f} to {lead.high:.3f}"
    ahead = f"Its lead over the next, trial {following['number']}, is {lead.gap:.3f}, and {resamples}"
    if lead.sure:
        return f"{ahead}: more than chance in the images makes, though one seed each was trained."
    alike = rivals(value, ranked["best_value"].tolist(), images)
    others = "that trial" if alike == 1 else f"{alike:,} others"
    return f"{ahead}: {others} may be as good{_confirm_hint(experiment)}."


def _confirm_hint(experiment: Experiment) -> str:
    """What would tell more; a population's schedule cannot be trained again."""
    return "" if experiment.manifest.get("scheduler") == "pbt" else "; further seeds (--confirm 3) would tell"


def _confirmed(experiment: Experiment) -> str | None:
    found = (experiment.best or {}).get("confirmation") or {}
    if found.get("mean") is None:
        return None
    spread = "" if found["std"] is None else f" ± {found['std']:.3f}"
    return (
        f"Trained again with {plural(len(found['values']), 'further seed')}, its config gives {found['mean']:.3f}"
        f"{spread} on validation (the best of many noisy values flatters){_ahead_of_next(experiment, found['values'])}."
    )


def _ahead_of_next(experiment: Experiment, values: list[float]) -> str:
    """Against the next of the configs that were trained again."""
    configs = [one for one in (experiment.confirmation or {}).get("configs", []) if one.get("values")]
    others = [one for one in configs if one["trial_id"] != (experiment.best or {}).get("trial_id")]
    if not others:
        return ""
    lead = lead_by_seeds(values, others[0]["values"], sign=-1.0 if experiment.mode == "min" else 1.0)
    told = "which seeds alone do not make" if lead.sure else "so the two cannot be told apart"
    return (
        f"; it is {lead.gap:.3f} ahead of trial {others[0]['number']}, and 95 % of resamples of the seeds give "
        f"{lead.low:.3f} to {lead.high:.3f}, {told}"
    )


def _mattered_and_next(experiment: Experiment, best: pd.Series) -> str:
    return f"{_mattered(experiment)}; {_next(experiment, best)}."


def _mattered(experiment: Experiment) -> str:
    if not any(domain.varied for domain in experiment.hyperparameters.values()):
        return "No hyperparameter was varied"
    found = associations(experiment)
    if found is None:
        return "Too few trials have a value to tell which hyperparameter mattered"
    over = f"over {found.trials:,} trials at epoch {found.epoch}"
    leading = [one for one in found.found if one.stands_out][:2]
    if not leading:
        return f"No hyperparameter stands out {over}"
    first, *rest = (_associated(one) for one in leading)
    return f"What mattered most, {over}, was the {first}{''.join(f', then the {one}' for one in rest)}"


def _associated(one: Association) -> str:
    return f"{words(one.name)} (alone it explains {one.share:.0%} of the ranks)"


def _next(experiment: Experiment, best: pd.Series) -> str:
    """What to try next, the most pressing first."""
    if experiment.state in ("RUNNING", "PENDING"):
        return "wait for the search to end"
    counts = count_states(experiment.trials)
    failed, ended = counts["FAILED"], sum(counts.values())
    mend = [f"mend first what made {failed:,} of {ended:,} trials fail"] if failed > _MANY_FAILED * ended else []
    steps = [*mend, *_beyond(experiment, best), *_longer(experiment, best)]
    if steps:
        return f"next, {' and '.join(steps)}"
    if not any(domain.varied for domain in experiment.hyperparameters.values()):
        return "next, vary one"
    if (experiment.trials["rank"] > 0).sum() < FEWEST:
        return "next, run more of them"
    return "the best values lie inside their ranges, so next, search closer around them"


def _beyond(experiment: Experiment, best: pd.Series) -> list[str]:
    """A step for each range that the best trial ends at, with how many of the best few agree."""
    few = experiment.trials[experiment.trials["rank"] <= max(3, min(20, len(experiment.trials) // 10))]
    near = [{(edge.name, edge.side) for edge in edges(row, experiment.hyperparameters)} for _, row in few.iterrows()]
    steps = []
    for edge in edges(best, experiment.hyperparameters):
        agree = sum((edge.name, edge.side) in found for found in near)
        steps.append(_wider(edge, agree, len(few)))
    return [listed(steps)] if steps else []


def _wider(edge: Edge, agree: int, few: int) -> str:
    whose = (
        f"the best of {agree} of the best {few} trials lie"
        if agree > 1
        else "the best, " + number(edge.value) + ", lies"
    )
    return f"widen the range of the {words(edge.name)} ({whose} at its {edge.side} edge, {number(edge.bound)})"


def _longer(experiment: Experiment, best: pd.Series) -> list[str]:
    """A step where the best trial was trained to the end and still gained."""
    epochs = int(best["epochs"])
    reports = experiment.reports[experiment.reports["number"] == best["number"]]
    if best["best_epoch"] != experiment.manifest.get("max_epochs") or epochs < 4:
        return []
    before = reports[reports["epoch"] <= math.floor(0.75 * epochs)][experiment.metric]
    value = float(best["best_value"])
    gained = value - before.max() if experiment.mode == "max" else before.min() - value
    still = gained > _STILL_RISING * abs(value)
    return (
        [f"train longer than {plural(epochs, 'epoch')} (it still gained {gained:.3f} in the last quarter)"]
        if still
        else []
    )


def _scheduled(experiment: Experiment) -> list[str]:
    """How the hyperparameters of the best weights changed, where trials went on from each other's checkpoints."""
    steps = (experiment.best or {}).get("schedule") or []
    if not steps:
        return []
    values = [listed([f"{words(name)} {number(value)}" for name, value in step["changes"].items()]) for step in steps]
    told = zip(steps[1:], values[1:], strict=True)
    later = [f"from epoch {step['epoch'] + 1} on {text}" for step, text in told if text]
    return [
        f"A schedule trained its weights: at first {'; '.join([values[0], *later])}. Its config alone, trained "
        "from the start, is not what was found."
    ]


def _tested(experiment: Experiment) -> list[str]:
    accuracy = ((experiment.best or {}).get("metrics") or {}).get("test_accuracy")
    if accuracy is None:
        return []
    return [f"On the test split, which the search never saw, it reaches {accuracy:.3f} (measured once, at the end)."]


def _trade_off_sentences(experiment: Experiment) -> list[str]:
    """The front in plain words; empty where there is one metric alone, or no trial came to its end."""
    if len(experiment.metrics) < 2:
        return []
    found = outcomes(experiment.reports, experiment.trials, experiment.metrics)
    front = found[found[FRONT].astype(bool)]
    if front.empty:
        return []
    named = " and ".join(words(name) for name in experiment.metrics)
    ends = [_extreme(front, name, mode) for name, mode in experiment.metrics.items()]
    return [f"In {named} at once no other trial beats {plural(len(front), 'trial')}: {'; '.join(ends)}."]


def _extreme(front: pd.DataFrame, metric: str, mode: str) -> str:
    """The trial of the front with the best value of one metric."""
    best = front.sort_values([metric, "number"], ascending=[mode == "min", True]).iloc[0]
    return f"trial {best['number']} has the best {words(metric)} ({number(float(best[metric]))})"


def _fates(experiment: Experiment) -> list[str]:
    counts = {state: count for state, count in count_states(experiment.trials).items() if count}
    total = sum(counts.values())
    if not total:
        return ["No trial was started yet." if experiment.state == "RUNNING" else "The search started no trial."]
    if len(counts) > 1:
        parts = [f"{count:,} {STATE_WORDS[state]}" for state, count in counts.items()]
        return [f"Of {plural(total, 'trial')}, {listed(parts)}."]
    fate = STATE_WORDS[next(iter(counts))]
    verb = ("is " if total == 1 else "are ") if fate in ("unfinished", "waiting") else ""
    return [f"{'The only trial' if total == 1 else f'All {total:,} trials'} {verb}{fate}."]


def _failure_sentences(experiment: Experiment) -> list[str]:
    causes = failures(experiment.trials)
    if causes.empty:
        return []
    first = causes.iloc[0]
    where = f" in {first['where']}" if first["where"] else ""
    if len(causes) == 1:
        lead = "The failure" if first["count"] == 1 else "The failures, all alike"
        return [f"{lead}: {first['kind']}{where}."]
    return [f"Trials failed of {len(causes)} causes, most often ({first['count']} times) {first['kind']}{where}."]
