from types import SimpleNamespace

import numpy as np
import pytest
import ray

from search.cluster import Growth, count_slots, explain_wait, resources_of, run_like_a_trial, slots_on
from trainable.errors import ResourceError
from trainable.slot.cluster import Node, TrialResources

LAPTOP = [Node(cpus=8, gpus=0)]
A100 = Node(cpus=96, gpus=8, accelerators=("A100",))
V100 = Node(cpus=32, gpus=4, accelerators=("V100",))
CLUSTER = [Node(cpus=4, gpus=0), A100, A100]
MIXED = [V100, A100, V100]
UNEVEN = [Node(cpus=7, gpus=1), Node(cpus=2, gpus=4), Node(cpus=16, gpus=2)]
HEAD = [Node(cpus=0, gpus=0, is_head=True)]
NO_GROWTH = Growth()


def trial(cpus: int = 1, gpus: float = 0.0, workers: int = 1, kind: str | None = None) -> TrialResources:
    return TrialResources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus, accelerator=kind)


@pytest.mark.parametrize(
    ("nodes", "resources", "slots"),
    [
        (LAPTOP, trial(), 8),
        (LAPTOP, trial(cpus=3), 2),
        (LAPTOP, trial(workers=3), 2),
        (CLUSTER, trial(gpus=1), 16),
        (CLUSTER, trial(cpus=24, gpus=1), 8),
        (CLUSTER, trial(gpus=0.25), 64),
        (CLUSTER, trial(gpus=0.3), 48),
        (CLUSTER, trial(gpus=0.6), 16),
        ([Node(cpus=100, gpus=1)], trial(gpus=1 / 49), 49),  # 1 / (1 / 49) < 49
        (CLUSTER, trial(gpus=1, workers=4), 4),
        (CLUSTER, trial(gpus=1, workers=16), 1),
        (CLUSTER, trial(cpus=64), 2),
        (MIXED, trial(gpus=1), 16),
        (MIXED, trial(gpus=1, kind="A100"), 8),
        (MIXED, trial(gpus=0.25, kind="V100"), 32),
        (MIXED, trial(gpus=1, workers=3, kind="V100"), 2),
        (UNEVEN, trial(cpus=3, workers=2), 3),  # 2 + 0 + 5 workers
        (UNEVEN, trial(gpus=1), 5),  # 1 + 2 (CPUs) + 2
        (UNEVEN, trial(gpus=1, workers=2), 2),  # the fifth worker stays alone
        (UNEVEN, trial(cpus=2, gpus=1, workers=4), 1),  # 1 + 1 + 2
    ],
)
def test_slots_are_what_fits_on_each_node(nodes: list[Node], resources: TrialResources, slots: int) -> None:
    assert count_slots(nodes, resources, NO_GROWTH) == slots


def place_one_by_one(nodes: list[Node], resources: TrialResources) -> int:
    """Workers put onto nodes one at a time until none finds room: the slow, obvious count of slots."""
    left = [[node.cpus, [1.0] * int(node.gpus)] for node in nodes]
    workers = 0
    for cpus, gpus in left:
        while cpus >= resources.cpus_per_worker:
            fitting = [index for index, free in enumerate(gpus) if free >= resources.gpus_per_worker - 1e-9]
            if resources.gpus_per_worker and not fitting:
                break
            if resources.gpus_per_worker:
                gpus[fitting[0]] -= resources.gpus_per_worker
            cpus -= resources.cpus_per_worker
            workers += 1
    return workers // resources.workers


@pytest.mark.parametrize("seed", range(20))
def test_slots_are_those_that_placing_workers_one_by_one_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [Node(cpus=int(rng.integers(0, 20)), gpus=int(rng.integers(0, 5))) for _ in range(4)]
    workers = int(rng.integers(1, 4))
    gpus = float(rng.choice([0, 1] if workers > 1 else [0, 0.2, 0.3, 0.5, 1]))
    resources = trial(cpus=int(rng.integers(1, 5)), gpus=gpus, workers=workers)

    assert slots_on(nodes, resources) == place_one_by_one(nodes, resources)


@pytest.mark.parametrize(
    ("nodes", "resources", "arithmetic"),
    [
        (
            [Node(cpus=16, gpus=1)],
            trial(gpus=1, workers=4),
            "takes 4 workers x 1 CPU and 4 x 1 GPU, and the cluster has 16 CPUs and 1 GPU on 1 node. Lower",
        ),
        (CLUSTER, trial(cpus=100), "has 196 CPUs and 16 GPUs on 3 nodes, at most 96 and 8 on one. Lower"),
        (
            CLUSTER,
            trial(cpus=90, workers=3),
            "3 workers x 90 CPUs, and the cluster has 196 CPUs and 16 GPUs on 3 nodes",
        ),
        ([], trial(), "the cluster has 0 CPUs and 0 GPUs on 0 nodes. Lower"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_arithmetic(
    nodes: list[Node], resources: TrialResources, arithmetic: str
) -> None:
    with pytest.raises(ResourceError) as info:
        count_slots(nodes, resources, NO_GROWTH)

    assert arithmetic in str(info.value)


def test_slots_are_counted_on_the_nodes_that_may_come_too() -> None:
    growth = Growth(nodes=(A100, A100), most=2)

    assert slots_on(HEAD, trial(gpus=1)) == 0
    assert count_slots(HEAD, trial(gpus=1), growth) == 16
    assert count_slots(LAPTOP, trial(), growth) == 8 + 96 + 96
    assert count_slots([A100], trial(gpus=1, workers=24), growth) == 1


def test_of_the_nodes_that_may_come_those_count_that_hold_most_of_a_trial() -> None:
    small = Node(cpus=8, gpus=1)
    growth = Growth(nodes=(small, small, small, A100, A100), most=3)

    assert growth.best_for(trial(gpus=1)) == [A100, A100, small]
    assert count_slots(HEAD, trial(gpus=1), growth) == 17


def test_what_even_the_grown_cluster_cannot_hold_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ResourceError) as info:
        count_slots(HEAD, trial(cpus=97, gpus=1), Growth(nodes=(A100,) * 4, most=4))

    assert (
        "a trial takes 1 worker x 97 CPUs and 1 x 1 GPU, and the cluster has 0 CPUs and 0 GPUs on 1 node, and its "
        "autoscaler may start up to 4 more nodes of 96 CPUs and 8 GPUs. Lower" in str(info.value)
    )


def test_a_wait_says_what_a_trial_takes_what_there_is_and_what_may_come() -> None:
    small = Node(cpus=8, gpus=0)
    growth = Growth(nodes=(A100, A100, small), most=2)

    assert explain_wait([Node(cpus=8, gpus=0)], trial(gpus=1), growth) == (
        "waiting for the cluster to grow: a trial takes 1 worker x 1 CPU and 1 x 1 GPU, the cluster has 8 CPUs and "
        "0 GPUs on 1 node now, and its autoscaler may start up to 2 more nodes of 96 CPUs and 8 GPUs and 1 more node "
        "of 8 CPUs and 0 GPUs, 2 in all"
    )


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        (LAPTOP, (None, None), trial()),
        (CLUSTER, (None, None), trial(gpus=1)),
        (CLUSTER, (4, 0.5), trial(cpus=4, gpus=0.5)),
        (CLUSTER, (None, 0.0), trial()),
    ],
)
def test_defaults_are_one_cpu_and_one_gpu_where_there_are_any(
    nodes: list[Node], asked: tuple[int | None, float | None], expected: TrialResources
) -> None:
    assert resources_of(nodes, NO_GROWTH, workers=1, cpus_per_worker=asked[0], gpus_per_worker=asked[1]) == expected


def of_type(kind: str, nodes: list[Node], growth: Growth = NO_GROWTH) -> TrialResources:
    return resources_of(nodes, growth, workers=1, cpus_per_worker=None, gpus_per_worker=None, accelerator=kind)


def test_a_type_of_gpu_is_one_that_a_node_has_or_will_have() -> None:
    assert of_type("V100", MIXED) == of_type("V100", HEAD, Growth(nodes=(V100,), most=1)) == trial(gpus=1, kind="V100")
    assert str(of_type("V100", MIXED)) == "1 worker x 1 CPU and 1 x 1 GPU of type V100"


@pytest.mark.parametrize(
    ("kind", "nodes", "growth", "sentence"),
    [
        ("H100", MIXED, NO_GROWTH, "'H100', and the cluster has A100 and V100."),
        ("v100", MIXED, NO_GROWTH, "and the cluster has A100 and V100. Did you mean 'V100'?"),
        ("T4", LAPTOP, NO_GROWTH, "the cluster has no GPU of any type."),
        (
            "a100",
            [V100],
            Growth(nodes=(A100,), most=1),
            "V100, and its autoscaler may start A100. Did you mean 'A100'?",
        ),
    ],
)
def test_a_type_of_gpu_that_the_cluster_will_never_have_is_refused_with_those_that_it_has(
    kind: str, nodes: list[Node], growth: Growth, sentence: str
) -> None:
    with pytest.raises(ResourceError, match="--accelerator-type must be a type of GPU that the cluster has") as info:
        of_type(kind, nodes, growth)

    assert sentence in str(info.value)


def test_a_trial_for_one_type_of_gpu_counts_on_nodes_of_that_type_alone() -> None:
    growth = Growth(nodes=(V100, V100, A100), most=2)
    only_a100 = trial(gpus=1, kind="A100")

    assert count_slots([V100], only_a100, growth) == 8
    assert explain_wait([V100], only_a100, growth) == (
        "waiting for the cluster to grow: a trial takes 1 worker x 1 CPU and 1 x 1 GPU of type A100, the cluster has "
        "0 CPUs and 0 GPUs on 0 nodes with A100 now, and its autoscaler may start up to 1 more node of 96 CPUs and "
        "8 GPUs"
    )
    with pytest.raises(ResourceError, match=r"has 96 CPUs and 8 GPUs on 1 node with A100\. Lower"):
        count_slots([V100, V100, A100], trial(gpus=1, workers=9, kind="A100"), NO_GROWTH)


def test_a_lost_task_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(reference: object) -> None:
        raise ray.exceptions.OutOfMemoryError("killed for memory\nmore")

    task = SimpleNamespace(remote=lambda *arguments, **options: None)
    monkeypatch.setattr(ray, "remote", lambda **options: lambda function: task)
    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(ResourceError, match=r"it was lost: OutOfMemoryError: killed for memory\. Look"):
        run_like_a_trial(print, nodes=CLUSTER, resources=trial())


@pytest.mark.parametrize(
    ("nodes", "resources", "here"),
    [
        (LAPTOP, trial(), True),
        (LAPTOP, trial(cpus=8), True),
        (CLUSTER, trial(), False),
        ([A100], trial(gpus=1), False),
        (HEAD, trial(), False),  # a task, for which the cluster grows
    ],
)
def test_only_a_machine_that_is_the_whole_cluster_and_holds_a_trial_runs_tasks_in_the_search_itself(
    monkeypatch: pytest.MonkeyPatch, nodes: list[Node], resources: TrialResources, here: bool
) -> None:
    monkeypatch.setattr(ray, "remote", lambda **options: lambda function: SimpleNamespace(remote=lambda **_: "task"))
    monkeypatch.setattr(ray, "get", lambda reference: reference)

    assert run_like_a_trial(lambda **_: "here", nodes=nodes, resources=resources) == ("here" if here else "task")
