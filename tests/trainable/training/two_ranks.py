"""What each of several connected processes does for test_parity.py: `two_ranks.py RANK WORLD_SIZE FOLDER STORE`.

Every function below is run by all ranks, one function after another, in a folder of its own; where it needs one rank
to compare with, the first process trains that as well. What it returns is written to `<FOLDER>/<function>-<rank>.pt`.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoModel, BertConfig, BertTokenizerFast

from trainable.config import TrialConfig
from trainable.data.store import Store
from trainable.data.vocabulary import prompts
from trainable.errors import DivergedError
from trainable.training.device_data import DeviceData
from trainable.training.pace import LOOK_SECONDS, Pace
from trainable.training.parallel import whole
from trainable.training.ranks import ONE_RANK, Ranks
from trainable.training.trainer import Trainer

RANK, WORLD_SIZE, FOLDER, STORE = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
STEP: dict[str, Any] = {"batch_size": 28, "epoch_samples": 28, "augmentation": 0.0, "gradient_clip": 0.0}
"""One optimiser step per epoch, of which the gradients can be read off."""
RUN: dict[str, Any] = {"batch_size": 28, "epoch_samples": 84, "augmentation": 0.5, "max_epochs": 3, "embedding_dim": 8}


@cache
def data() -> DeviceData:
    return DeviceData(Store.open(STORE), torch.device("cpu"))


def trainer(ranks: Ranks | None = None, **fields: Any) -> Trainer:
    config = TrialConfig.from_dict({"precision": "float32", **fields})
    return Trainer(config, data(), Ranks.current() if ranks is None else ranks)


def on_one_rank(make: Callable[[], Any]) -> Any:
    """What the first process alone makes; None elsewhere."""
    return make() if RANK == 0 else None


@contextmanager
def double_precision() -> Iterator[None]:
    """Everything in float64: then rounding flips no ReLU, of which one alone moves a gradient by 1e-3."""
    single = torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = single  # type: ignore[method-assign]
        torch.set_default_dtype(torch.float32)


def one_step(ranks: Ranks | None = None, **fields: Any) -> dict[str, Any]:
    """The report of one step, the gradient of every weight, and the running statistics."""
    one = trainer(ranks, **STEP, **fields)
    report = one.train_epoch()
    named = one.model.named_parameters()
    gradients = {name: whole(p.grad).clone() for name, p in named if p.grad is not None}
    statistics = {name: buffer for name, buffer in one.model.named_buffers() if buffer.is_floating_point()}
    return {"report": report, "gradients": gradients, "statistics": statistics}


def compare_steps(cases: list[dict[str, Any]], ranks: Ranks | None = None) -> list[dict[str, Any]]:
    """Each case on all ranks; the first process compares it with one rank, which saves no memory."""
    plain = {"parallelism": "ddp", "accumulation": 1, "activation_checkpointing": False}
    steps_alone: dict[str, dict[str, Any]] = {}
    compared = []
    for case in cases:
        together = one_step(ranks, **case)
        fields = {**case, **plain}
        if RANK == 0 and str(fields) not in steps_alone:
            steps_alone[str(fields)] = one_step(ONE_RANK, **fields)
        alone = steps_alone.get(str(fields))
        compared.append({"case": case, "report": together["report"], **(difference(together, alone) if alone else {})})
    return compared


def difference(together: dict[str, Any], alone: dict[str, Any]) -> dict[str, Any]:
    """How far several ranks are from one, for each tensor as a share of its norm.

    A gradient that is 0 but for rounding, such as that of an attention's key bias, is set against 1e-3 of the whole
    gradient.
    """
    floor = 1e-3 * float(torch.stack([g.norm() for g in alone["gradients"].values()]).norm())
    return {
        "alone": alone["report"],
        "same_weights": together["gradients"].keys() == alone["gradients"].keys(),
        "gradients": {
            name: float((together["gradients"][name] - gradient).norm()) / max(float(gradient.norm()), floor)
            for name, gradient in alone["gradients"].items()
        },
        "statistics": {
            name: float((together["statistics"][name] - expected).norm() / expected.norm())
            for name, expected in alone["statistics"].items()
        },
    }


def steps_in_float64() -> Any:
    """Every loss, with copies and with shards, with and without batch norm and accumulation."""
    cases = [
        {"loss": loss, "parallelism": parallelism, **tower}
        for loss in ("multipositive", "clip", "sigmoid")
        for parallelism in ("ddp", "fsdp")
        for tower in (
            {"image_tower": "resnet-tiny"},
            {"image_tower": "vit-tiny"},
            {"image_tower": "vit-tiny", "accumulation": 7},
        )
    ]
    with double_precision():
        return compare_steps(cases)


def steps_in_float32() -> Any:
    losses = ("multipositive", "clip", "sigmoid")
    return compare_steps(
        [{"image_tower": "vit-tiny", "loss": loss, "accumulation": parts} for loss in losses for parts in (1, 2)]
    )


def through_sockets() -> Any:
    """The same without shared memory, as on two machines."""
    towers: list[dict[str, Any]] = [{"image_tower": "resnet-tiny"}, {"image_tower": "vit-tiny", "accumulation": 2}]
    with double_precision():
        return compare_steps(towers, Ranks(RANK, WORLD_SIZE))


def shared_memory() -> Any:
    """Whether these ranks have some, what is left of its file, and how often it was used for one sum."""
    ranks = Ranks.current()
    assert ranks.shared_memory is not None
    before = ranks.exchanges
    total = ranks.sum(torch.tensor([RANK + 1.0]))
    return {"sum": total.tolist(), "exchanges": ranks.exchanges - before, "same": Ranks.current() is ranks}


def checkpointed_activations() -> Any:
    cases = [
        {"image_tower": tower, "parallelism": parallelism, "activation_checkpointing": True}
        for tower in ("resnet-tiny", "vit-tiny")
        for parallelism in ("ddp", "fsdp")
    ]
    with double_precision():
        return compare_steps(cases)


def tower_with_unused_weights() -> Any:
    folder = FOLDER / "tower"
    if RANK == 0:
        said = " ".join(prompt for row in prompts(data().classes, "en") for prompt in row)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(re.findall(r"\w+|[^\w\s]", said.lower())))]
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        (FOLDER / "vocab.txt").write_text("\n".join(words))
        BertTokenizerFast(str(FOLDER / "vocab.txt")).save_pretrained(folder)
        config = BertConfig(vocab_size=len(words), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes)
        AutoModel.from_config(config).save_pretrained(folder)
    dist.barrier()
    return compare_steps(
        [
            {"image_tower": "vit-tiny", "text_tower": str(folder), "parallelism": parallelism, "accumulation": parts}
            for parallelism in ("ddp", "fsdp")
            for parts in (1, 2)
        ]
    )


def fixed_logit_scale() -> Any:
    one = trainer(**STEP, learn_logit_scale=False, logit_scale=1.5)
    return one.train_epoch()


def resumed(parallelism: str, towers: dict[str, str]) -> dict[str, Any]:
    """Two epochs in one go, and with a checkpoint between them that is also taken up by one rank alone."""
    fields = {**RUN, **towers, "parallelism": parallelism}
    folder = FOLDER / f"checkpoint-{parallelism}"
    first = trainer(**fields)
    first.run_epoch()
    first.save(folder)
    at_checkpoint = first.evaluate("validation")
    expected = first.run_epoch()
    torch.manual_seed(RANK + 100)
    second = trainer(**fields)
    second.load(folder)
    dist.barrier()  # all have read it

    def one_rank() -> dict[str, Any]:
        alone = trainer(ONE_RANK, **fields)
        alone.load(folder)
        evaluation = alone.evaluate("validation")
        alone.run_epoch()
        alone.save(FOLDER / f"alone-{parallelism}")
        return {"evaluation": evaluation, "evaluation_later": alone.evaluate("validation")}

    result = {
        "reports": (expected, second.run_epoch()),
        "weights": (weights(first), weights(second)),
        "at_checkpoint": at_checkpoint,
        "one_rank": on_one_rank(one_rank),
    }
    dist.barrier()
    third = trainer(**fields)
    third.load(FOLDER / f"alone-{parallelism}")
    return {**result, "from_one_rank": third.evaluate("validation"), "goes_on": third.run_epoch()}


def weights(of: Trainer) -> dict[str, Tensor]:
    return {name: whole(tensor).clone() for name, tensor in of.model.state_dict().items()}


def resume_copied() -> Any:
    return resumed("ddp", {"image_tower": "resnet-tiny"})


def resume_sharded() -> Any:
    return resumed("fsdp", {"image_tower": "vit-tiny"})


def resumed_within_an_epoch(parallelism: str, towers: dict[str, str]) -> dict[str, Any]:
    """An epoch in one go, and cut where the second rank alone wants it, which one rank alone also goes on from."""
    fields = {**RUN, **towers, "parallelism": parallelism}
    folder = FOLDER / f"part-{parallelism}"
    expected = trainer(**fields).run_epoch()
    first = trainer(**fields)
    asked: list[float] = []
    wanted = Pace(
        first.ranks,
        first.device,
        wanted=lambda: RANK == 1 and len(asked) == 2,
        clock=lambda: 2 * LOOK_SECONDS * len(asked),  # a look after every step
    )
    whole_epoch = first.advance(lambda seconds: bool(asked.append(seconds)) or wanted.is_over(seconds))
    first.save(folder)
    dist.barrier()  # it is written
    torch.manual_seed(RANK + 100)
    second = trainer(**fields)
    second.load(folder)

    def one_rank() -> dict[str, Any]:
        alone = trainer(ONE_RANK, **{**fields, "augmentation": 0.0})
        alone.load(folder, inherited=True)
        return alone.run_epoch()

    result = {
        "cut": (whole_epoch, first.epochs_done, second.epochs_done),
        "reports": (expected, second.run_epoch()),
        "one_rank": on_one_rank(one_rank),
    }
    dist.barrier()
    return result


def resume_copied_within_an_epoch() -> Any:
    return resumed_within_an_epoch("ddp", {"image_tower": "resnet-tiny"})


def resume_sharded_within_an_epoch() -> Any:
    return resumed_within_an_epoch("fsdp", {"image_tower": "vit-tiny"})


def looks() -> Any:
    """After which of 40 steps of 0.1 s, by rank 0's clock alone, these ranks agree; rank 0 wants a cut after 3 s."""
    ranks, now, agreed = Ranks.current(), 0.0, []
    pace = Pace(ranks, torch.device("cpu"), limit_seconds=4.0, clock=lambda: now if RANK == 0 else 0.0)
    for step in range(1, 41):
        now = step * 0.1
        before = ranks.exchanges
        over = pace.is_over()
        agreed += [step] if ranks.exchanges > before else []
        if over:
            return agreed, step
    return agreed, None


def saved_model() -> Any:
    """The folder of a model that ranks of shards wrote, and what they measured."""
    one = trainer(**RUN, parallelism="fsdp")
    one.train_epoch()
    one.save_model(FOLDER / "model")
    return one.evaluate("validation")


def divergence() -> Any:
    try:
        trainer(**RUN, learning_rate=1e30).run_epoch()
    except DivergedError as error:
        return str(error)
    return None


def augmentation_of_each_rank() -> Any:
    """A draw of each rank's own generator, and of the one they share, fresh and after a checkpoint of one rank."""
    one = trainer(**RUN)
    folder = FOLDER / "draws"
    if RANK == 0:
        trainer(ONE_RANK, **RUN).save(folder)
    dist.barrier()
    fresh = draws(one)
    one.load(folder)
    return fresh, draws(one)


def draws(of: Trainer) -> list[float]:
    generators = (of.random.augmentation, torch.default_generator, of.random.template)
    return [float(torch.rand((), generator=generator)) for generator in generators]


def main() -> None:
    torch.set_num_threads(1)
    store = f"file://{FOLDER / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=store, rank=RANK, world_size=WORLD_SIZE, timeout=timedelta(seconds=120))
    for job in (
        steps_in_float64,
        steps_in_float32,
        through_sockets,
        shared_memory,
        checkpointed_activations,
        tower_with_unused_weights,
        fixed_logit_scale,
        resume_copied,
        resume_sharded,
        resume_copied_within_an_epoch,
        resume_sharded_within_an_epoch,
        looks,
        saved_model,
        divergence,
        augmentation_of_each_rank,
    ):
        torch.save(job(), FOLDER / f"{job.__name__}-{RANK}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
