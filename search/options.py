"""What may be asked of a search: one frozen record, and what its fields must hold."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from search.pbt import ranges_of, require_population
from search.spaces import SPACES, Space, build_space, require_whole_shares
from trainable.data.unseen import UnseenClasses, parse_unseen
from trainable.data_flags import DATA_PATH_HELP, DATASET_HELP
from trainable.errors import ConfigError, require_one_of

ALGORITHMS = ("asha", "random", "optuna", "hyperopt")
SCHEDULERS = ("asha", "asha-promote", "hyperband", "median", "pbt", "none")
METRICS = {
    "val_accuracy": "max",
    "val_balanced_accuracy": "max",
    "val_unseen_accuracy": "max",
    "val_unseen_balanced_accuracy": "max",
    "val_harmonic_accuracy": "max",
    "val_harmonic_balanced_accuracy": "max",
    "val_loss": "min",
    "train_accuracy": "max",
    "train_loss": "min",
    "epoch_seconds": "min",
}
"""What a search can rank trials by -> whether more (`max`) or less (`min`) is better. `val_` may be left away."""
SAMPLERS = ("tpe", "gp", "cmaes", "nsga2")
LOGGERS = ("mlflow", "wandb")
MAX_SEED = 2**32 - 1
"""The largest seed that every searcher takes."""


def _option(default: Any, group: str, doc: str, *, metavar: str | None = None) -> Any:
    """A field of `SearchOptions` that is a flag; `doc` is both its documentation and its --help."""
    return dataclasses.field(default=default, metadata={"group": group, "doc": doc, "metavar": metavar})


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What was asked of a search; each field's metadata holds its doc line.

    Raises `ConfigError` on construction when a value is out of its domain.
    """

    algo: str = _option("asha", "Search", f"how trials are drawn: {', '.join(ALGORITHMS)}; asha draws at random")
    scheduler: str | None = _option(
        None,
        "Search",
        f"what stops trials early, or lets bad ones go on as copies of good ones (pbt): {', '.join(SCHEDULERS)} "
        "(default: none for --algo random, else asha)",
    )
    space: str = _option("scratch", "Search", f"the search space: {', '.join(SPACES)}")
    overrides: tuple[str, ...] = _option(
        (), "Search", "fix or change one dimension, such as 'embedding_dim=choice(64,128)'; repeatable"
    )
    sampler: str | None = _option(
        None, "Search", f"how --algo optuna draws: {', '.join(SAMPLERS)} (default: tpe)", metavar="NAME"
    )
    trials: int = _option(16, "Search", "how many trials to run", metavar="N")
    metric: str = _option(
        "val_accuracy",
        "Search",
        f"what ranks the trials: {', '.join(METRICS)} (val_ may be left away); with --algo optuna several, such as "
        "val_accuracy,epoch_seconds",
    )
    seed: int = _option(0, "Search", "seeds the draws and everything else that is random", metavar="N")
    points: str | None = _option(None, "Search", "a YAML list of configs to try first", metavar="FILE")
    warm_start: tuple[str, ...] = _option(
        (),
        "Search",
        "an earlier experiment (folder or address) that the draws learn from; repeatable",
        metavar="PLACE",
    )
    confirm: int = _option(
        0, "Search", "how many of the best configs are trained again with further seeds, after the search", metavar="K"
    )

    dataset: str = _option("synthetic", "Data", DATASET_HELP, metavar="NAME")
    data_path: str | None = _option(None, "Data", DATA_PATH_HELP, metavar="PATH")
    unseen: str | None = _option(
        None,
        "Data",
        "classes that are not trained but measured, as VALIDATION[:TEST], such as fear:disgust; compounds, a split of "
        "synthetic; or none (default: compounds for synthetic, else none)",
        metavar="GROUPS",
    )

    max_epochs: int = _option(8, "Budget", "epochs of a trial that is never stopped", metavar="N")
    grace_epochs: int = _option(
        1, "Budget", "epochs before a trial can be stopped: asha's first rung; pbt compares every so many", metavar="N"
    )
    reduction_factor: int = _option(3, "Budget", "one in so many trials passes each of asha's rungs", metavar="N")
    time_budget: str | None = _option(
        None, "Budget", "end the search in order after this long, such as 45m, 2h or 1h30m", metavar="TIME"
    )

    budget_hours: float | None = _option(
        None, "Budget", "end the search in order after so many GPU-hours, or CPU-hours without GPUs", metavar="HOURS"
    )
    price_per_hour: float | None = _option(
        None, "Budget", "what a GPU, or without GPUs a CPU, costs an hour, to count money", metavar="PRICE"
    )

    workers_per_trial: int = _option(
        1, "Resources", "workers that train one trial together, each an equal share of every batch", metavar="N"
    )
    max_concurrent: int | None = _option(
        None, "Resources", "most trials at one time (default: as many as the cluster holds)", metavar="N"
    )
    cpus_per_worker: int | None = _option(None, "Resources", "CPUs of each worker (default: 1)", metavar="N")
    gpus_per_worker: float | None = _option(
        None,
        "Resources",
        "GPUs of each worker: 1, 0, or with one worker per trial a fraction (default: 1 where there are any)",
        metavar="X",
    )
    accelerator_type: str | None = _option(
        None,
        "Resources",
        "train on GPUs of this type alone, as Ray names it, such as A100 (default: any)",
        metavar="TYPE",
    )
    max_failures: int = _option(
        2,
        "Resources",
        "how often in a row a trial whose process or node was lost is started again without having come further",
        metavar="N",
    )
    max_lost_minutes: float = _option(
        10.0,
        "Resources",
        "how much of a trial's work may be lost: epochs that take longer are checkpointed within",
        metavar="M",
    )

    name: str | None = _option(
        None, "Output", "the experiment's name (default: data set, algorithm and time)", metavar="NAME"
    )
    storage: str = _option(
        "results",
        "Output",
        "the folder, or the address, such as s3://bucket/prefix, that holds all experiments",
        metavar="PLACE",
    )
    keep_best: int = _option(3, "Output", "how many of the best trials keep their weights", metavar="K")
    logger: tuple[str, ...] = _option(
        (),
        "Output",
        f"also log every trial as a run in MLflow or Weights & Biases: {', '.join(LOGGERS)}; repeatable",
        metavar="NAME",
    )
    resume: str | None = _option(
        None,
        "Output",
        "an experiment's folder or address: go on with its search, with what it was asked",
        metavar="PLACE",
    )

    def __post_init__(self) -> None:
        """Fill in the scheduler and check every field."""
        for field in dataclasses.fields(self):
            check_type(field.name, type_name(field), getattr(self, field.name))
        require_one_of("--algo", self.algo, ALGORITHMS)
        if self.scheduler is None:
            object.__setattr__(self, "scheduler", "none" if self.algo == "random" else "asha")
        require_one_of("--scheduler", str(self.scheduler), SCHEDULERS)
        require_one_of("--space", self.space, SPACES)
        object.__setattr__(self, "metric", full_metric(self.metric))
        for metric in self.metrics:
            require_one_of("--metric", metric, METRICS)
        for logger in self.logger:
            require_one_of("--logger", logger, LOGGERS)
        object.__setattr__(self, "logger", tuple(dict.fromkeys(self.logger)))
        if self.unseen is not None:
            parse_unseen(self.unseen)
        _require(
            len(set(self.metrics)) == len(self.metrics) and (len(self.metrics) == 1 or self.algo == "optuna"),
            "--metric must name one metric, or with --algo optuna several different ones",
            self.metric,
        )
        if self.sampler is not None:
            require_one_of("--sampler", self.sampler, SAMPLERS)
            _require(self.algo == "optuna", "--sampler needs --algo optuna", f"--algo {self.algo}")
        _require(
            not (self.algo == "asha" and self.scheduler == "none"),
            "--algo asha needs a scheduler; use --algo random to stop no trial",
            "--scheduler none",
        )
        if self.scheduler == "pbt":
            require_population(self.algo, self.confirm, str(self.resume or self.storage))
        for name in ("trials", "max_epochs", "grace_epochs", "keep_best", "workers_per_trial"):
            self._require_at_least(name, 1)
        for name in ("max_concurrent", "cpus_per_worker"):
            if getattr(self, name) is not None:
                self._require_at_least(name, 1)
        for name in ("max_failures", "confirm"):
            self._require_at_least(name, 0)
        for name in ("budget_hours", "price_per_hour", "max_lost_minutes"):
            value = getattr(self, name)
            _require(value is None or 0 < value < float("inf"), f"{flag(name)} > 0 must hold", value)
        _require(0 <= self.seed <= MAX_SEED, f"--seed 0 to {MAX_SEED} must hold", self.seed)
        self._require_at_least("reduction_factor", 2)
        _require(self.grace_epochs <= self.max_epochs, "--grace-epochs <= --max-epochs must hold", self.grace_epochs)
        if self.gpus_per_worker is not None:
            _check_gpus(self.gpus_per_worker, self.workers_per_trial)
            rule = "--accelerator-type needs --gpus-per-worker > 0"
            _require(self.accelerator_type is None or self.gpus_per_worker > 0, rule, self.gpus_per_worker)
        _ = self.time_budget_seconds

    def to_dict(self) -> dict[str, Any]:
        """What was asked, as `experiment.json` keeps it for `--resume`."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "resume"}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric; the first ranks the trials, and is what the scheduler goes by."""
        return tuple(self.metric.split(","))

    @property
    def mode(self) -> str:
        """`max` or `min`: which values of the first metric are better."""
        return METRICS[self.metrics[0]]

    @property
    def time_budget_seconds(self) -> float | None:
        """The time budget in seconds; None where there is none."""
        return None if self.time_budget is None else parse_duration(self.time_budget)

    def build_space(self) -> Space:
        """The search space with all overrides and `max_epochs`; raises `ConfigError`."""
        space = build_space(self.space, self.overrides, max_epochs=self.max_epochs)
        require_whole_shares(space, self.workers_per_trial)
        if self.scheduler == "pbt":
            ranges_of(space)
        varying = [name for name in ("batch_size", "loss") if name in space.draws()]
        if "train_loss" in self.metrics and varying:
            raise ConfigError(
                f"--metric train_loss must not rank trials of different {' and '.join(varying)}, because the loss "
                "depends on them even by chance: use --metric val_accuracy, or fix them by --set."
            )
        return space

    def require_measured(self, unseen: UnseenClasses) -> None:
        """Raise `ConfigError` where a metric is of unseen classes that validation does not have enough of."""
        for name in self.metrics:
            least = 2 if "unseen" in name else 1 if "harmonic" in name else 0
            if len(unseen.validation) < least:
                raise ConfigError(
                    f"--metric {name} needs at least {least} unseen class{'es' if least > 1 else ''} in the group for "
                    f"validation, but there {'is' if len(unseen.validation) == 1 else 'are'} "
                    f"{', '.join(unseen.validation) or 'none'}. Name them by --unseen VALIDATION:TEST."
                )

    def _require_at_least(self, name: str, low: int) -> None:
        value = getattr(self, name)
        _require(value >= low, f"{flag(name)} >= {low} must hold", value)


def full_metric(metric: str) -> str:
    """The metrics as reports name them: "accuracy,train_loss" -> "val_accuracy,train_loss"."""
    return ",".join(f"val_{name}" if f"val_{name}" in METRICS else name for name in metric.split(","))


def parse_duration(text: str) -> float:
    """Seconds of a time such as 90s, 45m, 2h, 1h30m or 1.5h; raises `ConfigError`."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([dhms])", text)
    seconds = sum(float(amount) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for amount, unit in parts)
    if "".join(amount + unit for amount, unit in parts) != text or seconds <= 0:
        raise ConfigError(f"--time-budget must be a time with its unit, such as 90s, 45m or 1h30m, but got {text!r}.")
    return seconds


FIELD_TYPES: dict[str, type] = {"int": int, "float": float, "str": str}


def type_name(field: "dataclasses.Field[Any]") -> str:
    """A field's type, as it is written."""
    return field.type.__name__ if isinstance(field.type, type) else str(field.type)


def check_type(name: str, declared: str, value: Any) -> None:
    """Raise `ConfigError` unless a value is of a field's type as `type_name` has it."""
    kind, optional = declared.removesuffix(" | None"), declared.endswith("| None")
    if kind not in FIELD_TYPES or (value is None and optional):
        return
    accepted = (int, float) if kind == "float" else FIELD_TYPES[kind]
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise ConfigError(f"{flag(name)} must be of type {kind}, but got {value!r}.")


def _check_gpus(gpus: float, workers: int) -> None:
    rule = "--gpus-per-worker 0 to 1 must hold (a worker trains on one GPU; --workers-per-trial takes several)"
    _require(0 <= gpus <= 1, rule, gpus)
    rule = f"--gpus-per-worker 0 or 1 must hold with --workers-per-trial {workers} (a trial's workers share no GPU)"
    _require(workers == 1 or gpus in (0, 1), rule, gpus)


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise ConfigError(f"{rule}, but got {value}.")


def flag(name: str) -> str:
    """The flag that sets a field."""
    return "--set" if name == "overrides" else "--" + name.replace("_", "-")
