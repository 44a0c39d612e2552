"""Search spaces: which hyperparameters of a `TrialConfig` may vary, and over what."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np

from search.conditions import Condition, check_conditions
from search.dimensions import Choice, Dimension, Fixed, LogUniform, RandInt, Uniform, Value
from search.grammar import parse_dimension, split_assignment
from trainable.config import TrialConfig
from trainable.errors import ConfigError, nearest

STRUCTURAL = (
    "image_tower",
    "text_tower",
    "head_depth",
    "loss",
    "weight_init",
    "language",
    "learn_logit_scale",
    "soft_targets",
    "freeze",
    "image_resolution",
    "precision",
    "activation_checkpointing",
    "compile",
    "parallelism",
)
"""Dimensions each of whose values builds another model or takes another path through it."""
STRUCTURAL_SIZES = ("embedding_dim", "batch_size", "accumulation")
"""Dimensions whose smallest and largest value decide whether a model can be built and fits into memory."""


@dataclass(frozen=True)
class Space:
    """A search space; a hyperparameter that is no dimension keeps the default of `TrialConfig`.

    A dimension with a condition acts only in the trials where that holds. Raises `ConfigError` on construction when a
    dimension is no hyperparameter or can draw a value out of its domain, or a condition's parent is not before it.
    """

    dimensions: Mapping[str, Dimension]
    description: str = ""
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """By dimension; they are not among what `to_dict` writes."""

    def __post_init__(self) -> None:
        """Check each dimension's name, the ends of its range, and the conditions."""
        for name, dimension in self.dimensions.items():
            _check_dimension(name, dimension)
        check_conditions(list(self.dimensions), self.conditions)

    @classmethod
    def from_dict(cls, expressions: Mapping[str, str]) -> Self:
        """The space that `to_dict` wrote."""
        return cls({name: parse_dimension(text) for name, text in expressions.items()})

    def to_dict(self) -> dict[str, str]:
        """Each dimension as an expression of the grammar."""
        return {name: str(dimension) for name, dimension in self.dimensions.items()}

    def draws(self) -> dict[str, Dimension]:
        """The dimensions that vary."""
        return {name: dim for name, dim in self.dimensions.items() if not isinstance(dim, Fixed)}

    def fixed(self) -> dict[str, Value]:
        """The values that every trial has."""
        return {name: dim.value for name, dim in self.dimensions.items() if isinstance(dim, Fixed)}

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """Draw one trial's hyperparameters, fixed ones included."""
        return self.compose(lambda name, dimension: dimension.sample(rng))

    def compose(self, draw: Callable[[str, Dimension], Value]) -> dict[str, Value]:
        """A config of `draw`'s values, parents first; it is asked only for dimensions that act."""
        config: dict[str, Value] = {}
        for name, dimension in self.dimensions.items():
            if name not in self.conditions or self.conditions[name].holds(config):
                config[name] = draw(name, dimension)
        return config

    def acting(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What of a trial's hyperparameters the space drew; None for what the config lacks."""
        return self.compose(lambda name, dimension: config.get(name))  # type: ignore[arg-type, return-value]

    def replace(self, dimensions: Mapping[str, Dimension]) -> "Space":
        """The same space with some dimensions changed or added; one that is fixed loses its condition."""
        changed = {**self.dimensions, **dimensions}
        kept = {name: which for name, which in self.conditions.items() if not isinstance(changed[name], Fixed)}
        return dataclasses.replace(self, dimensions=changed, conditions=kept)


def _check_dimension(name: str, dimension: Dimension) -> None:
    known = [field.name for field in dataclasses.fields(TrialConfig)]
    if name not in known:
        raise ConfigError(f"no hyperparameter is called {name!r}.{nearest(name, known)}")
    for value in dimension.edges():
        try:
            TrialConfig.from_dict({name: value})
        except ConfigError as error:
            raise ConfigError(f"the dimension {name}={dimension} must hold valid values only, but: {error}") from error


_STUDY: dict[str, Dimension] = {
    "learning_rate": LogUniform(1e-5, 1e-3),
    "logit_scale": Uniform(1.0, 4.0),
    "embedding_dim": Choice((2, 4, 8, 16, 32, 64, 128)),
    "weight_init": Choice(("trunc_normal", "xavier", "kaiming", "orthogonal")),
}
_SCRATCH: dict[str, Dimension] = {**_STUDY, "learning_rate": LogUniform(1e-4, 1e-2)}

SPACES: dict[str, Space] = {
    "scratch": Space(_SCRATCH, "towers that learn from scratch: the study's ranges with learning rates up to 1e-2"),
    "study": Space(_STUDY, "the ranges of the original study"),
    "wide": Space(
        {
            **_SCRATCH,
            "head_depth": Choice((1, 2, 3)),
            "weight_decay": LogUniform(1e-4, 0.3),
            "augmentation": Uniform(0.0, 1.0),
            "loss": Choice(("multipositive", "sigmoid")),
            "warmup_fraction": Uniform(0.0, 0.3),
        },
        "scratch, and head depth, weight decay, augmentation, loss and warm-up",
    ),
    "compose": Space(
        {
            "learning_rate": LogUniform(1e-3, 3e-3),
            "logit_scale": Uniform(2.4, 2.9),
            "embedding_dim": Choice((64, 128)),
            "mixing": Uniform(0.15, 0.4),
            "batch_size": Choice((16, 32)),
            "loss": Fixed("sigmoid"),
        },
        "mixed images in small batches, and rates at which towers from scratch soon learn: for unseen classes that are "
        "made of seen ones",
    ),
    "pretrained": Space(
        {
            **_STUDY,
            "image_learning_rate_factor": LogUniform(1e-3, 1.0),
            "text_learning_rate_factor": LogUniform(1e-3, 1.0),
            "layer_decay": Uniform(0.6, 1.0),
            "freeze": Choice(("none", "image", "text", "both")),
            "weight_init": Fixed("pretrained"),
        },
        "towers with weights to load, by --set image_tower=... and --set text_tower=...: the study's ranges for heads, "
        "shares of that rate for the towers, layer decay, and which tower keeps its weights",
    ),
}


def build_space(name: str, overrides: Sequence[str] = (), *, max_epochs: int | None = None) -> Space:
    """The named space with `overrides` (``name=dimension``) applied and `max_epochs` fixed; raises `ConfigError`."""
    if name not in SPACES:
        raise ConfigError(f"--space must name a search space, but got {name!r}.{nearest(name, SPACES)}")
    space = apply_overrides(SPACES[name], overrides)
    return space if max_epochs is None else space.replace({"max_epochs": Fixed(max_epochs)})


def apply_overrides(space: Space, overrides: Sequence[str]) -> Space:
    """Fix, change or add dimensions by ``name=dimension``; the last of several for one name holds.

    Raises `ConfigError` for an unknown name, an expression that cannot be read, or a value out of the domain.
    """
    changes = dict(split_assignment(text) for text in overrides)
    if "max_epochs" in changes:
        raise ConfigError("max_epochs must be the same for all trials of a search: use --max-epochs, not --set.")
    return space.replace(changes)


def require_whole_shares(space: Space, workers: int) -> None:
    """Raise `ConfigError` where a batch can be drawn that does not divide among `workers` and their micro-batches."""
    for accumulation in _values_of(space, "accumulation"):
        share = workers * accumulation
        uneven = next((size for size in _values_of(space, "batch_size") if size % share), None) if share > 1 else None
        if uneven is not None:
            raise ConfigError(
                f"batch_size must be a multiple of --workers-per-trial {workers} x accumulation {accumulation}, but the"
                f" space can draw {uneven}: use --set batch_size={max(1, uneven // share) * share}, or a choice of "
                "multiples."
            )


def structural_choices(space: Space) -> list[dict[str, Value]]:
    """The fewest configs in which each structural value of the space occurs.

    Those are every value of the `STRUCTURAL` dimensions and the smallest and largest of the `STRUCTURAL_SIZES`, the
    largest ones together. All other dimensions stand at the lower end of their range.
    """
    values = {name: _structural_values(name, dimension) for name, dimension in space.dimensions.items()}
    rows = max((len(column) for column in values.values()), default=1)
    return [{name: column[row % len(column)] for name, column in values.items()} for row in range(rows)]


def _values_of(space: Space, name: str) -> Sequence[int]:
    """Every value that a whole-numbered hyperparameter can take."""
    dimension = space.dimensions.get(name) or Fixed(getattr(TrialConfig(), name))
    if isinstance(dimension, RandInt):
        return range(dimension.low, dimension.high + 1)
    return cast(Sequence[int], dimension.edges())


def _structural_values(name: str, dimension: Dimension) -> list[Value]:
    edges: list[Any] = list(dimension.edges())
    if name in STRUCTURAL_SIZES:
        return sorted({min(edges), max(edges)})
    if name in STRUCTURAL:
        return list(range(dimension.low, dimension.high + 1)) if isinstance(dimension, RandInt) else edges
    return edges[:1]
