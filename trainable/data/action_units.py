"""Facial action units (FACS) and the prototypes of the 7 basic and 15 compound emotions.

Prototypes follow Table 1 of Du, Tao and Martinez, "Compound facial expressions of emotion", PNAS 111(15), 2014,
E1454-E1462, doi 10.1073/pnas.1322355111: `always` holds the AUs that more than 70 % of the subjects used,
`sometimes` those of a subset, with the share of subjects as the probability. Neutral has no AU.

In that table five compound emotions share a prototype with another class: sadly fearful with fear (1+4+20+25),
sadly angry with sad (4+15), and sadly disgusted, appalled and hatred are all 4+10. A drawing tells them apart by
`sometimes` and by `decisive`: the AU that the same group's later table lists as prototypical for the class
(Benitez-Quiroz, Srinivasan and Martinez, "EmotioNet", CVPR 2016, Table 1: sadly fearful 1+4+15+25, sadly angry
4+7+15, appalled 4+9+10, hatred 4+7+10). It gives sadly disgusted 4+10 again. Near pairs remain, as between people:
hatred and angrily disgusted differ by how often AUs 7, 9 and 17 are used, and appalled from both by AU9.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

ACTION_UNITS: dict[int, str] = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    11: "nasolabial deepener",
    12: "lip corner puller",
    15: "lip corner depressor",
    17: "chin raiser",
    20: "lip stretcher",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    27: "mouth stretch",
}
"""Number and name of each action unit that can be drawn."""

UNIT_NUMBERS = tuple(ACTION_UNITS)


@dataclass(frozen=True)
class Prototype:
    """The action units of one emotion."""

    always: tuple[int, ...]
    """AUs used by more than 70 % of the subjects."""
    sometimes: Mapping[int, float] = field(default_factory=dict)
    """AU -> share of the subjects that used it."""
    decisive: tuple[int, ...] = ()
    """AUs drawn always although the first table has them under 70 %: see the module's text."""

    def probabilities(self) -> np.ndarray:
        """The chance of each of `UNIT_NUMBERS` to be active, `(A,)`."""
        certain = {*self.always, *self.decisive}
        return np.array([1.0 if unit in certain else self.sometimes.get(unit, 0.0) for unit in UNIT_NUMBERS])


BASIC_PROTOTYPES: dict[str, Prototype] = {
    "angry": Prototype((4, 7, 24), {10: 0.26, 17: 0.52, 23: 0.29}),
    "disgust": Prototype((9, 10, 17), {4: 0.31, 24: 0.26}),
    "fear": Prototype((1, 4, 20, 25), {2: 0.57, 5: 0.63, 26: 0.33}),
    "happy": Prototype((12, 25), {6: 0.51}),
    "sad": Prototype((4, 15), {1: 0.60, 6: 0.50, 11: 0.26, 17: 0.67}),
    "surprise": Prototype((1, 2, 25, 26), {5: 0.66}),
    "neutral": Prototype(()),
}
"""In FER-2013's order."""

COMPOUND_PROTOTYPES: dict[str, Prototype] = {
    "happily_surprised": Prototype((1, 2, 12, 25), {5: 0.64, 26: 0.67}),
    "happily_disgusted": Prototype((10, 12, 25), {4: 0.32, 6: 0.61, 9: 0.59}),
    "sadly_fearful": Prototype((1, 4, 20, 25), {2: 0.46, 5: 0.24, 6: 0.34, 15: 0.30}, decisive=(15,)),
    "sadly_angry": Prototype((4, 15), {6: 0.26, 7: 0.48, 11: 0.20, 17: 0.50}, decisive=(7,)),
    "sadly_surprised": Prototype((1, 4, 25, 26), {2: 0.27, 6: 0.31}),
    "sadly_disgusted": Prototype((4, 10), {1: 0.49, 6: 0.61, 9: 0.20, 11: 0.35, 15: 0.54, 17: 0.47, 25: 0.43}),
    "fearfully_angry": Prototype((4, 20, 25), {5: 0.40, 7: 0.39, 10: 0.30, 11: 0.33}),
    "fearfully_surprised": Prototype((1, 2, 5, 20, 25), {4: 0.47, 10: 0.35, 11: 0.22, 26: 0.51}),
    "fearfully_disgusted": Prototype((1, 4, 10, 20, 25), {2: 0.64, 5: 0.50, 6: 0.26, 9: 0.28, 15: 0.33}),
    "angrily_surprised": Prototype((4, 25, 26), {5: 0.35, 7: 0.50, 10: 0.34}),
    "angrily_disgusted": Prototype((4, 10, 17), {7: 0.60, 9: 0.57, 24: 0.36}),
    "disgustedly_surprised": Prototype((1, 2, 5, 10), {4: 0.45, 9: 0.37, 17: 0.66, 24: 0.33}),
    "appalled": Prototype((4, 10), {6: 0.25, 9: 0.56, 17: 0.67, 24: 0.36}, decisive=(9,)),
    "hatred": Prototype((4, 10), {7: 0.57, 9: 0.27, 17: 0.63, 24: 0.37}, decisive=(7,)),
    "awed": Prototype((1, 2, 5, 25), {4: 0.21, 20: 0.62, 26: 0.56}),
}

PROTOTYPES = BASIC_PROTOTYPES | COMPOUND_PROTOTYPES
"""Every class of the synthetic data set, the 7 basic ones first."""
