"""What each worker of a group does: carry out orders, for as long as the group lives."""

from collections.abc import Mapping
from typing import Any

import ray
import ray.train.torch

from trainable.errors import GlanceError
from trainable.slot.failure import describe_failure, is_device_broken
from trainable.slot.mailbox import Answer, Order
from trainable.slot.node_watch import watch_node
from trainable.slot.notice import NOTICE, catch_sigterm
from trainable.slot.runner import InProcessRunner, Runner, enter_working_folder
from trainable.slot.trial_files import StoredFiles, StoredRunner
from trainable.training.ranks import Ranks

CLOSE = "close"


def work(settings: Mapping[str, Any]) -> None:
    """The training function that Ray Train runs on each worker: take orders from the mailbox until told to close.

    `settings` holds `mailbox`, and of the group's options `store`, `unseen`, `threads`, `working_folder`, `desk` and
    `prefix`.
    Ray Train has placed this process, given it its rank and device, and connected it with the other ranks.
    """
    enter_working_folder(settings["working_folder"])
    device = ray.train.torch.get_device()
    mailbox, rank = settings["mailbox"], ray.train.get_context().get_world_rank()
    itself = ray.get_runtime_context().current_actor
    itself.execute.remote(catch_sigterm)  # in its main thread, which this is not
    watch_node()
    runner = _build_runner(settings, rank, str(device))
    ray.get(mailbox.join.remote(rank, itself))
    verb = None
    while verb != CLOSE:
        order: Order = ray.get(mailbox.next_order.remote(rank))
        with NOTICE.awaited():
            answer = carry_out(runner, order)
        ray.get(mailbox.answer.remote(rank, answer))
        verb = order.verb


def _build_runner(settings: Mapping[str, Any], rank: int, device: str) -> Runner:
    store = settings["store"]
    training = {name: settings[name] for name in ("threads", "unseen", "max_lost_seconds")}
    if not settings["desk"]:
        return InProcessRunner(store, device=device, **training)
    files = StoredFiles(settings["desk"], settings["prefix"])
    return StoredRunner(store, files, first=rank == 0, device=device, **training)


def carry_out(runner: Runner, order: Order) -> Answer:
    """Do what an order says; an exception becomes a failure in the answer."""
    try:
        value = getattr(runner, order.verb)(*order.arguments)
    except Exception as error:
        return Answer(
            value=None,
            failure=describe_failure(error),
            user_error=isinstance(error, GlanceError),
            device_broken=is_device_broken(error),
            exchanges=Ranks.current().exchanges,
        )
    return Answer(value=value, failure=None, user_error=False, device_broken=False, exchanges=Ranks.current().exchanges)
