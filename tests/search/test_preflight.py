from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from search.dimensions import Choice, LogUniform
from search.preflight import preflight
from search.spaces import Space
from trainable.errors import ConfigError
from trainable.slot.cluster import Node, TrialResources

NODES = [Node(cpus=2, gpus=0)]
SPACE = Space({"learning_rate": LogUniform(1e-4, 1e-2), "loss": Choice(("clip", "sigmoid"))})


def probe_that_fails(user_error: bool) -> Any:
    """A probe in which every config with the loss `sigmoid` fails."""

    def probe(
        store: str, configs: Sequence[dict[str, Any]], workers: int, unseen: None, **options: Any
    ) -> list[dict[str, Any]]:
        text = {"kind": "RuntimeError", "message": "sizes differ.", "where": "loss.py:9", "traceback": "Traceback ..."}
        failing = [config for config in configs if config["loss"] == "sigmoid"]
        return [{**text, "config": config, "user_error": user_error} for config in failing]

    return probe


@pytest.mark.parametrize(("user_error", "ending"), [(True, "sizes differ."), (False, "[loss.py:9]\nTraceback ...")])
def test_names_the_choice_that_fails_and_why(monkeypatch: pytest.MonkeyPatch, user_error: bool, ending: str) -> None:
    monkeypatch.setattr("search.preflight.probe_configs", probe_that_fails(user_error))
    with pytest.raises(ConfigError) as info:
        preflight(SPACE, "store", NODES, TrialResources(), seed=0)

    assert "1 of 2 failed, the first with learning_rate=0.0001, loss=sigmoid: " in str(info.value)
    assert str(info.value).endswith(ending)


def test_tries_whole_configs_with_the_resources_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def probe(
        store: str, configs: Sequence[dict[str, Any]], workers: int, unseen: dict[str, Any], **options: Any
    ) -> list[Any]:
        seen.append((store, [(config["loss"], config["seed"]) for config in configs], workers, unseen, options))
        return []

    monkeypatch.setattr("search.preflight.probe_configs", probe)
    unseen = {"validation": ["fear"], "test": []}
    preflight(SPACE, "store", NODES, TrialResources(workers=4, cpus_per_worker=2), seed=7, unseen=unseen)

    options = {"threads": 2, "gpu": False, "working_folder": str(Path.cwd())}
    assert seen == [("store", [("clip", 7), ("sigmoid", 7)], 4, unseen, options)]
