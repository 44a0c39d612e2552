"""Classes that a model is not trained on, to measure what it makes of their names alone.

They come in two disjoint groups. What is reported after each epoch on the validation split holds the first one, and a
search may optimise it; the second one is looked at once, on the test split, for the best trial. Neither has images or
prompts in training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from trainable.data.store import Manifest
from trainable.data.vocabulary import VOCABULARIES, canonical_name
from trainable.data.words import COMPOUND_PARTS
from trainable.errors import ConfigError, nearest

NONE = "none"
"""What is written for no unseen classes."""


@dataclass(frozen=True, kw_only=True)
class UnseenClasses:
    """The two groups, by the split that measures them."""

    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, groups: Mapping[str, Sequence[str]] | None) -> Self:
        """Take back what `to_dict` gave; None is what was written before there were any."""
        return cls(**{split: tuple(names) for split, names in (groups or {}).items()})

    def to_dict(self) -> dict[str, list[str]]:
        """Split -> classes, for JSON and other processes."""
        return {split: list(names) for split, names in asdict(self).items()}

    def of(self, split: str) -> tuple[str, ...]:
        """The group that a split measures; training has none."""
        return {"validation": self.validation, "test": self.test}.get(split, ())

    def seen(self, manifest: Manifest) -> tuple[str, ...]:
        """The classes that are trained, in order of their labels."""
        kept_out = {*self.validation, *self.test}
        return tuple(name for name in manifest.seen_classes if name not in kept_out)

    def counts(self, manifest: Manifest) -> dict[str, dict[str, int]]:
        """Split -> class -> images that are used: for training, or to measure with."""
        seen = self.seen(manifest)
        return {
            split: {name: number if name in (*seen, *self.of(split)) else 0 for name, number in counts.items()}
            for split, counts in manifest.counts.items()
        }

    def __str__(self) -> str:
        """As `parse_unseen` reads it."""
        return ":".join(",".join(names) for names in (self.validation, self.test) if names or self.test) or NONE


COMPOUNDS_VALIDATION = tuple(COMPOUND_PARTS)[1::3]
"""Every third compound whose name says its parts, in the paper's order from the second on: each of the six basic
emotions is a part of at least one of these, and of at least one of the others."""
NAMED_SPLITS = {
    "compounds": UnseenClasses(
        validation=COMPOUNDS_VALIDATION,
        test=tuple(name for name in VOCABULARIES["compound15"] if name not in COMPOUNDS_VALIDATION),
    ),
}
"""Name -> groups that are the same in every search."""
DEFAULT_SPLITS = {"synthetic": "compounds"}
"""Data set -> the named split that it has unless another is asked for."""


def parse_unseen(text: str) -> UnseenClasses:
    """Read `VALIDATION[:TEST]`, classes with commas between them, or the name of a split; raises `ConfigError`.

    `:fear,disgust` names a test group alone, `none` no class at all.
    """
    if text == NONE:
        return UnseenClasses()
    if text in NAMED_SPLITS:
        return NAMED_SPLITS[text]
    groups = [tuple(canonical_name(name) for name in part.split(",") if name.strip()) for part in text.split(":")]
    names = [name for group in groups for name in group]
    if len(groups) > 2 or not names:
        raise ConfigError(
            f"--unseen must be VALIDATION[:TEST], such as fear:disgust or happy,sad:fear,disgust, or one of "
            f"{', '.join((*NAMED_SPLITS, NONE))}, but got {text!r}."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"--unseen must name each class once, in one of its groups, but got {twice} more than once.")
    return UnseenClasses(validation=groups[0], test=groups[1] if len(groups) == 2 else ())


def choose_unseen(text: str | None, manifest: Manifest) -> UnseenClasses:
    """The unseen classes that were asked for of a data set; None asks for its own split, where it has one.

    Raises `ConfigError` where the data set lacks a class, or has no images of it where it is measured, or where fewer
    than two classes would be left to train on.
    """
    if text is not None:
        unseen = _as_called(parse_unseen(text), manifest.classes)
        _check(unseen, manifest)
        return unseen
    own = NAMED_SPLITS.get(DEFAULT_SPLITS.get(manifest.dataset, ""), UnseenClasses())
    return UnseenClasses() if _without_images(own, manifest) else own


def parts_of(classes: Sequence[str], seen: Sequence[str]) -> list[tuple[int, int] | None]:
    """For each class the positions in `seen` of the two that its name says, the lower first; else None."""
    pairs = [COMPOUND_PARTS.get(name) for name in classes]
    return [_positions(pair, seen) if pair is not None and {*pair} <= {*seen} else None for pair in pairs]


def _positions(pair: tuple[str, str], seen: Sequence[str]) -> tuple[int, int]:
    first, second = sorted(seen.index(part) for part in pair)
    return first, second


def _as_called(unseen: UnseenClasses, classes: Sequence[str]) -> UnseenClasses:
    """The groups in the words of a data set, whose folders may be called otherwise than the table calls them."""
    called = {canonical_name(name): name for name in classes}
    groups = {split: tuple(called.get(name, name) for name in names) for split, names in unseen.to_dict().items()}
    return UnseenClasses(**groups)


def _check(unseen: UnseenClasses, manifest: Manifest) -> None:
    for name in (*unseen.validation, *unseen.test):
        if name not in manifest.classes:
            known = nearest(name, [*manifest.classes, *NAMED_SPLITS, NONE])
            raise ConfigError(f"--unseen must name classes of {manifest.dataset}, but it has no {name!r}.{known}")
    lacking = _without_images(unseen, manifest)
    if lacking:
        split, name = lacking[0]
        raise ConfigError(
            f"--unseen must name classes that their split has images of, but {split} has none of {name}. Move it to "
            "the other group, or leave it out."
        )
    trained = [name for name in unseen.seen(manifest) if manifest.counts["train"][name]]
    if len(trained) < 2:
        raise ConfigError(
            f"--unseen must leave at least two classes to train on, but of {', '.join(manifest.seen_classes)} it "
            f"leaves {', '.join(trained) or 'none'}. Name fewer."
        )


def _without_images(unseen: UnseenClasses, manifest: Manifest) -> list[tuple[str, str]]:
    """Each split with a class of its group that it has no images of."""
    groups = unseen.to_dict().items()
    return [(split, name) for split, names in groups for name in names if not manifest.counts[split].get(name)]
