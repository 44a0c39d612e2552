"""Trials and whole searches to fake, and what a search must give back."""

import contextlib
import copy
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from search.searchers import Searcher
from search.trials import TrialRecord

MakeTrial = Callable[..., TrialRecord]

SINGLETON = "_AutoscalingCoordinatorActor"
"""An actor without resources that Ray Train starts once per cluster, and that outlives every search."""


def _trial(
    number: int,
    state: str = "FINISHED",
    accuracies: Sequence[float | None] = (),
    *,
    failure: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    ended_time: float | None = None,
) -> TrialRecord:
    """Trial `number`, with one report per accuracy, each 10 seconds after the one before."""
    reports = [{"epoch": n, "time": 100.0 + 10 * n, "val_accuracy": a} for n, a in enumerate(accuracies, start=1)]
    ended = state in ("FINISHED", "STOPPED", "FAILED")
    return TrialRecord(
        trial_id=f"trial-{number}",
        number=number,
        config=config or {},
        state=state,
        attempts=0 if state == "PENDING" else 1,
        reports=reports,
        failure=failure,
        created_time=90.0,
        started_time=None if state == "PENDING" else 100.0,
        ended_time=(200.0 + number if ended_time is None else ended_time) if ended else None,
    )


@pytest.fixture
def make_trial() -> MakeTrial:
    return _trial


class Played:
    """A search without slots: each call is one event, one second after the one before, told to the searcher."""

    def __init__(self, searcher: Searcher, records: Sequence[TrialRecord] = ()) -> None:
        """`records` are those of an earlier part of the search; they are copied, and `searcher` restored from them."""
        self.searcher = searcher
        self.records = copy.deepcopy(list(records))
        times = [
            t for r in self.records for t in (r.created_time, r.ended_time or 0.0, *(p["time"] for p in r.reports))
        ]
        self._time = max(times, default=100.0)
        for record in self.records:
            searcher.restore(record)

    @property
    def running(self) -> list[TrialRecord]:
        return [record for record in self.records if not record.ended]

    @property
    def configs(self) -> list[dict[str, Any]]:
        return [record.config for record in self.records]

    def begin(self) -> TrialRecord | None:
        """Draw a trial; None where the space is exhausted."""
        number = len(self.records)
        config = self.searcher.suggest(f"trial-{number}")
        if config is None:
            return None
        self.records.append(
            TrialRecord(
                trial_id=f"trial-{number}", number=number, config=config, state="RUNNING", created_time=self._now()
            )
        )
        return self.records[-1]

    def report(self, trial: TrialRecord, accuracy: float | None, **more: float) -> None:
        """The next epoch of a trial."""
        trial.reports.append({"epoch": trial.epochs + 1, "time": self._now(), "val_accuracy": accuracy, **more})
        self.searcher.on_report(trial, trial.reports[-1])

    def end(self, trial: TrialRecord, state: str = "FINISHED") -> None:
        trial.state, trial.ended_time = state, self._now()
        self.searcher.on_end(trial)

    def run(self, trials: int, score: Callable[[Mapping[str, Any]], float], slots: int = 3) -> "Played":
        """Draw so many more trials, up to `slots` at a time; of every seven ends one is a failure, two are stops."""
        for _ in range(trials):
            if self.begin() is None:
                return self
            if len(self.running) >= slots:
                self.finish(self.running[len(self.records) % slots], score)
        return self

    def finish(self, trial: TrialRecord, score: Callable[[Mapping[str, Any]], float]) -> None:
        """End a trial after one report or two, in a way that follows from its number."""
        fate = trial.number % 7
        self.report(trial, score(trial.config) - 0.1)
        if fate in (0, 3):
            self.end(trial, "STOPPED")
        elif fate == 5:
            self.end(trial, "FAILED")
        else:
            self.report(trial, score(trial.config))
            self.end(trial)

    def _now(self) -> float:
        self._time += 1.0
        return self._time


@pytest.fixture
def play() -> Callable[..., Played]:
    return Played


def _free() -> dict[str, float]:
    import ray

    return {name: ray.available_resources().get(name, 0.0) for name in ("CPU", "GPU", "memory")}


def _holders() -> dict[str, Any]:
    """The actors and placement groups that trials have on a cluster, pending ones included."""
    from ray._private.state import actors  # `ray.util.state` needs the dashboard
    from ray.util import placement_group_table

    alive = {key: actor["ActorClassName"] for key, actor in actors().items() if actor["State"] != "DEAD"}
    groups = {key: group["bundles"] for key, group in placement_group_table().items() if group["state"] != "REMOVED"}
    return groups | {key: name for key, name in alive.items() if name != SINGLETON}


AddNode = Callable[..., Any]


@pytest.fixture
def add_node(ray_cluster: str, eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[AddNode]:
    """Starts a further raylet on this machine, as an autoscaler would, and gives Ray's `Node` of it.

    (`ray.cluster_utils.Cluster` would start a second head beside that of the session; `ray start` would leave an
    address on the machine.)
    """
    import ray
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    started = []

    def add(cpus: int, gpus: int = 0, resources: dict[str, float] | None = None) -> Node:
        ports = dict.fromkeys(("node_manager_port", "min_worker_port", "max_worker_port"), 0)
        params = RayParams(gcs_address=ray_cluster, num_cpus=cpus, num_gpus=gpus, resources=resources, **ports)
        params.update(object_store_memory=100_000_000, dashboard_agent_listen_port=None, include_log_monitor=False)
        started.append(Node(params, head=False, shutdown_at_exit=True, spawn_reaper=True))
        return started[-1]

    yield add
    for node in started:
        node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)
    assert eventually(lambda: sum(node["Alive"] for node in ray.nodes()) == 1)


@pytest.fixture
def free_resources(ray_cluster: str, eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[None]:
    """Fails a test that leaves the cluster with less free than before it, or with a new actor or placement group."""
    free, holders = _free(), _holders()
    yield

    def as_before() -> bool:
        now = _free()
        return _holders().keys() <= holders.keys() and all(now[name] >= free[name] for name in free)

    new = {key: holder for key, holder in _holders().items() if key not in holders}
    assert eventually(as_before), f"{free} were free before the test, {_free()} are after it; left are {new}"


@pytest.fixture
def bench(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Searches of an experiment folder, whose training takes no time: `tests.search.bench.Bench`."""
    from search.cluster import Growth
    from tests.search.bench import Bench
    from trainable.slot.cluster import Node

    @contextlib.contextmanager
    def connected(say: object, **options: object) -> Iterator[list[Any]]:
        yield [Node(cpus=2, gpus=0)]

    bench = Bench(tmp_path, faces)
    monkeypatch.setattr("search.driver.run_trials", bench.run_trials)
    monkeypatch.setattr("search.finish.run_like_a_trial", bench.evaluate)
    monkeypatch.setattr("trainable.slot.cluster.connected", connected)
    monkeypatch.setattr("trainable.slot.cluster.current_nodes", lambda: [Node(cpus=2, gpus=0)])
    monkeypatch.setattr("search.growth.find_growth", lambda nodes, say: Growth())
    monkeypatch.setattr("search.preflight.preflight", lambda *arguments, **options: None)
    return bench


class Server:
    """A program of this environment that answers by HTTP; `url` is where."""

    def __init__(self, url: str) -> None:
        self.url = url

    def read(self, route: str) -> bytes:
        """What a GET of a route answers."""
        with urllib.request.urlopen(self.url + route, timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def ask(self, route: str, request: dict[str, Any] | None = None) -> Any:
        """The JSON that a route answers, a POST where there is a request; None where it answers an error, or nothing.

        TensorBoard answers one for what it has not found yet.
        """
        body = None if request is None else json.dumps(request).encode()
        asked = urllib.request.Request(self.url + route, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            return None


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path, eventually: Callable[..., bool]) -> Iterator[Serve]:
    """Starts `python -m` with arguments until the test's end, and waits until it says at which address it listens."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> Server:
            log = tmp_path / f"{arguments[0]}.log"
            output = stack.enter_context(log.open("wb"))
            process = subprocess.Popen([sys.executable, "-u", "-m", *arguments], stdout=output, stderr=output)
            stack.callback(process.wait)
            stack.callback(process.terminate)

            def listens() -> bool:
                return process.poll() is not None or _address(log) is not None

            assert eventually(listens, 180)
            assert process.poll() is None, log.read_text()
            return Server(str(_address(log)))

        yield start


def _address(log: Path) -> str | None:
    found = re.search(r"http://(?:127\.0\.0\.1|localhost):[1-9]\d*", log.read_text())
    return None if found is None else found[0]


@pytest.fixture
def tensorboard(serve: Serve) -> Callable[[Path], Server]:
    """Starts TensorBoard over a folder of event files, which it reads again every second."""

    def start(folder: Path) -> Server:
        return serve(*f"tensorboard.main --host 127.0.0.1 --port 0 --reload_interval 1 --logdir {folder}".split())

    return start
