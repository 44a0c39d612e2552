"""What a comparison comes to, in plain sentences."""

import math

from analysis.certainty import images_behind
from analysis.comparison import EPOCHS, Comparison, EqualBudget
from analysis.evidence import FEWEST_TRIALS, SEEDS_FOR_A_TEST, Evidence
from analysis.hyperparameters import words
from analysis.summary import duration, plural

METHOD = (
    "Each experiment is cut off where it had spent what the thriftiest spent in all, so that none is better for having "
    "been paid longer. The interval resamples the trials within an experiment, with replacement: they are what a "
    "search draws, and it tells how much of the result hangs on a few lucky ones. It cannot go beyond the best that "
    "was seen, and does not say what another seed would have given (Dodge et al., arXiv 1909.03004; Lourie et al., "
    "arXiv 2311.09480)."
)
METHOD_OF_SEEDS = (
    "Experiments that were asked for the same but for the seed form a group. Two groups are compared seed by seed: "
    "the mean difference with an interval from resampling the seeds, and Wilcoxon's signed-rank test; where they do "
    "not share two seeds, Mann and Whitney's test. With more than two groups the p-values are multiplied by the "
    "number of pairs (Bonferroni)."
)


def verdict(comparison: Comparison) -> list[str]:
    """Which experiment is better at equal budgets, how sure that is, or that nothing can be said."""
    sentences = [
        f"{_at(budget)}: {_claim(evidence, comparison.metric)}"
        for budget in comparison.budgets
        for evidence in budget.evidence
    ]
    return [*(sentences or [_nothing(comparison)]), *_images(comparison), *_advice(comparison)]


def budget_text(budget: EqualBudget) -> str:
    """An equal budget in words: `63 epochs`, `4 min 32 s of CPUs in slots`."""
    if budget.kind == EPOCHS:
        return plural(int(budget.amount), "epoch")
    return f"{duration(budget.amount)} of {budget.unit.removesuffix('-seconds')}s in slots"


def _at(budget: EqualBudget) -> str:
    return f"At an equal budget of {budget_text(budget)}"


def _claim(evidence: Evidence, metric: str) -> str:
    better, worse, measure = evidence.better, evidence.worse, words(metric)
    if math.isnan(evidence.value) or math.isnan(evidence.other):
        return f"nothing can be said of {better} and {worse}, for one of them has no value by then."
    figures = f"{measure} {evidence.value:.3f} against {evidence.other:.3f}"
    reason = _reason(evidence)
    if evidence.value == evidence.other:
        return f"nothing can be said: {better} and {worse} both reach {evidence.value:.3f}."
    if evidence.sure == "yes":
        return f"{better} is better than {worse} ({figures}; {reason})."
    if evidence.sure == "hint":
        return f"{better} is ahead of {worse} ({figures}), though not surely: {reason}."
    return f"nothing can be said of which is better, {better} or {worse} ({figures}): {reason}."


def _reason(evidence: Evidence) -> str:
    if evidence.method == "trials" and evidence.trials < FEWEST_TRIALS:
        return (
            f"{plural(evidence.trials, 'trial')} with a value by then, in one of them, {_is(evidence.trials)} too few"
        )
    if evidence.method == "trials":
        share = f"{100 * evidence.agreeing:.0f} %" if evidence.agreeing < 0.995 else "more than 99 %"
        if evidence.sure == "no":
            return f"in {share} of the resamples of their trials {evidence.better} is ahead, which chance may give"
        return f"so say {share} of the resamples of their trials"
    interval = f"difference {evidence.low:+.3f} to {evidence.high:+.3f}" if math.isfinite(evidence.low) else ""
    if evidence.method == "unpaired":
        searches = plural(evidence.seeds, "search", "searches")
        test = f"p = {evidence.p_value:.2g} by Mann and Whitney over {searches} or more of each"
        return ", ".join(filter(None, (interval, test)))
    few = ""
    if evidence.seeds < SEEDS_FOR_A_TEST:
        few = f", and {evidence.seeds} cannot give less than {min(1.0, 2 / 2**evidence.seeds):.2g}"
    won = f"won with {evidence.wins} of {plural(evidence.seeds, 'shared seed')}"
    return ", ".join(filter(None, (won, interval, f"p = {evidence.p_value:.2g} by Wilcoxon{few}")))


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _nothing(comparison: Comparison) -> str:
    empty = [entry.label for entry in comparison.entries if entry.course.empty]
    return f"Nothing can be said yet: {' and '.join(empty)} {'has' if len(empty) == 1 else 'have'} no report."


def _images(comparison: Comparison) -> list[str]:
    """A difference as a number of validation images, which is what chance decides about."""
    totals = {images_behind(entry.experiment.manifest, "val_accuracy") for entry in comparison.entries}
    found = [one for budget in comparison.budgets[:1] for one in budget.evidence[:1] if one.value != one.other]
    if comparison.metric != "val_accuracy" or len(totals) != 1 or not found or not (total := totals.pop()):
        return []
    difference = abs(found[0].value - found[0].other)
    if not math.isfinite(difference):
        return []
    images = f"{difference * total:.0f}" if difference * total >= 0.95 else "less than one"
    return [f"The difference is that of {images} of the {total:,} validation images."]


def _advice(comparison: Comparison) -> list[str]:
    """What would make it surer."""
    methods = {one.method for budget in comparison.budgets for one in budget.evidence}
    if methods == {"trials"} and len(comparison.groups) == 1:
        return ["They were asked for the same but for the seed: what differs is luck."]
    if "trials" in methods:
        return ["One search of each says nothing of other seeds: repeat both with the same further --seed to know."]
    if methods and not any(one.sure == "yes" for budget in comparison.budgets for one in budget.evidence):
        return ["Further seeds, the same for each group, would tell more."]
    return []
