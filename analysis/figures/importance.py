"""Which hyperparameters matter, and how good configs run through all of them."""

from collections.abc import Sequence

import pandas as pd

from analysis.comparable import Comparable
from analysis.figures.common import LABELLED, short, thin, trial_hover
from analysis.frames import CONFIG
from analysis.hyperparameters import Hyperparameter, is_missing, words
from analysis.importance import Importances
from analysis.plot import Axis, Mark, Note, Plot, Role, Series
from analysis.summary import number

LINES = 300
"""Most trials that parallel coordinates show."""
AXES = 8
"""Most hyperparameters that parallel coordinates show."""

_EVALUATORS: dict[str, Role] = {"fANOVA": "finished", "PED-ANOVA": "second"}


def importance(found: Importances) -> Plot:
    """Both evaluators' shares as bars, the most important hyperparameter at the top."""
    shares = found.shares.iloc[::-1]
    bars = [
        Series(
            name=name,
            style="bars",
            role=role,
            x=shares[name].tolist(),
            y=[row + (0.19 if name == "fANOVA" else -0.19) for row in range(len(shares))],
            thickness=0.34,
            hover=[f"{words(str(of))}: {share:.1%} by {name}" for of, share in shares[name].items()],
        )
        for name, role in _EVALUATORS.items()
    ]
    return Plot(
        name="importance",
        title="Importance of the hyperparameters",
        caption=found.caption,
        x=Axis(label="share"),
        y=Axis(label="", categories=tuple(str(name).replace("_", " ") for name in shares.index)),
        series=tuple(bars),
    )


def parallel(measured: Comparable, domains: Sequence[Hyperparameter], metric: str, mode: str = "max") -> Plot:
    """Each trial as a line through its hyperparameters, each on its own scale, to the value it reached.

    Drawn as lines that a vector graphic can hold: Optuna's own figure takes a trace for each trial, and plotly's needs
    WebGL.
    """
    domains = [domain for domain in domains if domain.varied][:AXES]
    shown, note = thin(measured.trials, LINES)
    ordered = shown.sort_values("value", ascending=mode == "min")
    low, high = float(ordered["value"].min()), float(ordered["value"].max())
    target = (
        Hyperparameter(name=metric, low=low, high=high) if low < high else Hyperparameter(name=metric, values=(low,))
    )
    tenth, half = max(1, len(ordered) // 10), max(1, len(ordered) // 2)
    groups: list[tuple[str, Role, pd.DataFrame]] = [
        ("the rest", "stopped", ordered.iloc[max(tenth, half) :]),
        ("better half", "finished", ordered.iloc[tenth:half]),
        ("best tenth", "best", ordered.iloc[:tenth]),
    ]
    axes = [*domains, target]
    return Plot(
        name="parallel_coordinates",
        title="Configs and what they reached",
        caption=" ".join([f"{measured.share}, those {measured.words}. Click a name in the legend to hide it.", *note]),
        x=Axis(
            label="",
            categories=tuple(short(domain.name.replace("_", " ")) for domain in axes),
            bounds=(-0.45, len(axes) - 0.55),
        ),
        y=Axis(label="", categories=("lowest", "highest"), bounds=(-0.13, 1.13)),
        series=tuple(_lines(name, role, group, axes, metric) for name, role, group in groups if len(group)),
        marks=tuple(Mark(place, "", vertical=True) for place in range(len(axes))),
        notes=tuple(note for place, domain in enumerate(axes) for note in _notes(place, domain)),
    )


def _target(metric: str, values: pd.Series) -> Hyperparameter:
    """The axis of what the trials reached."""
    low, high = float(values.min()), float(values.max())
    return Hyperparameter(name=metric, low=low, high=high) if low < high else Hyperparameter(name=metric, values=(low,))


def _lines(name: str, role: Role, group: pd.DataFrame, axes: Sequence[Hyperparameter], metric: str) -> Series:
    columns = [group["value" if domain is axes[-1] else CONFIG + domain.name].tolist() for domain in axes]
    x: list[float] = []
    y: list[float] = []
    hover: list[str] = []
    for values, text in zip(zip(*columns, strict=True), trial_hover(group, metric), strict=True):
        x += [*range(len(axes)), float("nan")]
        y += [*map(_place, axes, values), float("nan")]
        hover += [*[text] * len(axes), ""]
    return Series(name=name, style="lines", role=role, x=x[:-1], y=y[:-1], hover=hover[:-1])


def _place(domain: Hyperparameter, value: object) -> float:
    return float("nan") if is_missing(value) else domain.position(value)


def _notes(place: int, domain: Hyperparameter) -> list[Note]:
    """The ends of a range below and above its axis; every value of a choice beside it."""
    if domain.values and len(domain.values) <= LABELLED:
        return [Note(place, domain.position(value) + 0.04, short(number(value))) for value in domain.values]
    low, high = (domain.values[0], domain.values[-1]) if domain.values else (domain.low, domain.high)
    return [Note(place, -0.06, short(number(low))), Note(place, 1.06, short(number(high)))]
