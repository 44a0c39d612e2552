import pytest

from trainable.errors import ResourceError
from trainable.slot.cluster import Node
from trainable.slot.standalone import share_of_each


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus", "gpus"),
    [
        ([(8, 0)], 2, 4, 0),
        ([(8, 0)], 3, 2, 0),
        ([(8, 0)], 8, 1, 0),
        ([(3, 0), (3, 0)], 4, 1, 0),
        ([(5, 0), (1, 0)], 2, 2, 0),
        ([(4, 0), (96, 8), (96, 8)], 16, 12, 1),
        ([(96, 8)], 4, 24, 1),
    ],
)
def test_workers_share_all_cpus_and_get_a_gpu_each(
    nodes: list[tuple[int, int]], workers: int, cpus: int, gpus: int
) -> None:
    share = share_of_each([Node(cpus=cpus, gpus=gpus) for cpus, gpus in nodes], workers)

    assert (share.workers, share.cpus_per_worker, share.gpus_per_worker) == (workers, cpus, gpus)


@pytest.mark.parametrize(("node", "workers"), [((2, 0), 3), ((96, 8), 9)])
def test_workers_that_do_not_fit_are_refused_with_the_arithmetic(node: tuple[int, int], workers: int) -> None:
    with pytest.raises(ResourceError, match=rf"they take {workers} workers x 1 CPU.*Lower --workers"):
        share_of_each([Node(cpus=node[0], gpus=node[1])], workers)
