"""Watches, beside training, whether the node of this process is about to be lost.

Ray calls such a node draining: it starts nothing more there, and every process may read it. Kubernetes' SIGTERM to a
node's `ray start --block`, `ray drain-node` and an autoscaler drain a node. What a cloud tells the machine itself is
passed on to Ray in the same way, so that the trial that is saved here is not started here again.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import ray

from trainable.slot.cloud_notice import Taken, find_cloud
from trainable.slot.notice import NOTICE, Notice

LOOK_SECONDS = 5.0
"""AWS asks for as much; Google Cloud gives 30 seconds in all."""

_started = threading.Lock()


def watch_node() -> None:
    """Give this process notice when its node is about to be lost; once a process, for as long as it lives."""
    if not _started.acquire(blocking=False):
        return
    node = ray.get_runtime_context().get_node_id()
    watch = NodeWatch(NOTICE, draining=lambda: draining(node), cloud=find_cloud(), drain=lambda told: drain(node, told))
    threading.Thread(target=watch.run, name="node-watch", daemon=True).start()


class NodeWatch:
    """Looks at a node until it is about to be lost.

    `draining` says why Ray gives the node up, None where it does not; `cloud` asks its cloud, `drain` tells Ray.
    """

    def __init__(
        self,
        notice: Notice,
        *,
        draining: Callable[[], str | None],
        cloud: Callable[[], Taken | None] | None,
        drain: Callable[[Taken], None],
    ) -> None:
        self._notice = notice
        self._draining = draining
        self._cloud = cloud
        self._drain = drain

    def run(self, wait: Callable[[float], None] = time.sleep) -> None:
        """Look every few seconds until there is a notice."""
        while self._notice.reason is None:
            self.look()
            if self._notice.reason is None:
                wait(LOOK_SECONDS)

    def look(self) -> None:
        """Look once; who does not answer is asked again next time."""
        with contextlib.suppress(Exception):  # Ray's server may be away, and what it raises then has no common class
            reason = self._draining()
            if reason is not None:
                self._notice.give(reason)
                return
        with contextlib.suppress(OSError):
            taken = None if self._cloud is None else self._cloud()
            if taken is not None:
                self._notice.give(taken.reason)
                with contextlib.suppress(Exception):
                    self._drain(taken)


def draining(node_id: str) -> str | None:
    """Why Ray gives a node up; None where it does not."""
    from ray._private.state import state

    return "Ray drains its node" if node_id in state.get_draining_nodes() else None


def drain(node_id: str, taken: Taken) -> None:
    """Let Ray start nothing more on a node, and take what is lost there for no fault of its own."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    deadline = 0 if taken.deadline is None else int(1000 * taken.deadline)
    client.drain_node(node_id, DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, taken.reason, deadline)
