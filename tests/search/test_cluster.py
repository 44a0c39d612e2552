import pytest

from search.cluster import Node, TrialResources, count_slots, resources_of
from trainable.errors import ResourceError

LAPTOP = [Node(cpus=8, gpus=0)]
CLUSTER = [Node(cpus=4, gpus=0), Node(cpus=96, gpus=8, accelerator="A100"), Node(cpus=96, gpus=8, accelerator="A100")]


def trial(cpus: int = 1, gpus: float = 0.0, workers: int = 1) -> TrialResources:
    return TrialResources(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)


@pytest.mark.parametrize(
    ("nodes", "resources", "slots"),
    [
        (LAPTOP, trial(), 8),
        (LAPTOP, trial(cpus=3), 2),
        (CLUSTER, trial(gpus=1), 16),
        (CLUSTER, trial(cpus=24, gpus=1), 8),
        (CLUSTER, trial(gpus=0.25), 64),
        (CLUSTER, trial(gpus=0.3), 48),
        (CLUSTER, trial(gpus=0.6), 16),
        (CLUSTER, trial(gpus=8), 2),
        (CLUSTER, trial(gpus=3), 4),
        (CLUSTER, trial(gpus=1, workers=4), 4),
        (CLUSTER, trial(gpus=1, workers=16), 1),
        (CLUSTER, trial(cpus=64), 2),
    ],
)
def test_slots_are_what_fits_on_each_node(nodes: list[Node], resources: TrialResources, slots: int) -> None:
    assert count_slots(nodes, resources) == slots


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(ResourceError) as info:
        count_slots([Node(cpus=16, gpus=1)], trial(gpus=1, workers=4))

    assert "4 workers x 1 CPU and 4 x 1 GPU" in str(info.value)
    assert "the cluster has 16 CPUs and 1 GPU on 1 node" in str(info.value)


def test_what_fits_on_all_nodes_together_but_on_none_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"196 CPUs and 16 GPUs on 3 nodes, at most 96 and 8 on one"):
        count_slots(CLUSTER, trial(cpus=100))


def test_a_cluster_without_nodes_is_refused() -> None:
    with pytest.raises(ResourceError, match="0 CPUs and 0 GPUs on 0 nodes"):
        count_slots([], trial())


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
    assert resources_of(nodes, workers=1, cpus_per_worker=asked[0], gpus_per_worker=asked[1]) == expected
