"""What is tried before any trial, so that a search that cannot work ends within seconds."""

from collections.abc import Mapping, Sequence

from search.cluster import run_like_a_trial
from search.spaces import Space, structural_choices
from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.slot.cluster import Node, TrialResources
from trainable.slot.tasks import ProbeFailure, probe_configs


def preflight(
    space: Space,
    store: str,
    nodes: list[Node],
    resources: TrialResources,
    *,
    seed: int,
    unseen: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Train one worker's share of a batch for each structural choice of the space, where a trial would run.

    `store` is what nodes open it by. Raises `DataError` where that fails, `ConfigError` for a choice that cannot be
    trained.
    """
    defaults = TrialConfig(seed=seed).to_dict()
    configs = [{**defaults, **choice} for choice in structural_choices(space)]
    task = (probe_configs, store, configs, resources.workers, unseen)
    failures = run_like_a_trial(*task, nodes=nodes, resources=resources)
    if failures:
        raise ConfigError(_explain(failures[0], space, len(failures), len(configs)))


def _explain(failure: ProbeFailure, space: Space, failed: int, tried: int) -> str:
    choice = ", ".join(f"{name}={failure['config'][name]}" for name in space.dimensions)
    sentence = (
        f"one batch of each structural choice of the space must train, but {failed} of {tried} failed, the first with "
        f"{choice}: "
    )
    if failure["user_error"]:
        return sentence + failure["message"]
    return f"{sentence}{failure['kind']}: {failure['message']} [{failure['where']}]\n{failure['traceback']}"
