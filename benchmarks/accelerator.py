"""How well training uses an accelerator: images per second, and the share of the peak bf16 rate that is reached.

    python benchmarks/accelerator.py

One worker, connected by NCCL and wrapped by DDP as one of several would be, trains in bf16, with compiled towers and
without: `vit-tiny` at 48 pixels, and ViT-B/16 with BERT-base at 224 pixels, random weights, synthetic pixels that lie
on the device. A step is forward, loss, backward, clipping and AdamW; reading and augmenting images is left out. The
batch doubles until the rate stops rising or memory ends. A start is building a model and its first step, compilation
included; the next model of the same shape, as a slot's next trial builds it, finds the code there. Prints a table and,
as the last line, one JSON object.

Model FLOPs utilisation (arXiv 2204.02311, appendix B) is the FLOPs of forward and backward, counted by torch on the
model as it is with attention as plain matrix products, over the seconds of a step and the device's peak.

`--device cpu` runs the same code at toy sizes, to see that it runs; its figures say nothing of an accelerator.
"""

import argparse
import gc
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import nn
from torch._inductor.utils import fresh_cache
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, ByT5Tokenizer, PreTrainedConfig, ViTConfig

from search.experiment import hardware, versions
from trainable.config import TrialConfig
from trainable.data.vocabulary import prompts
from trainable.errors import ResourceError, run_command
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.tower_options import apply_tower_options
from trainable.slot.failure import is_out_of_memory
from trainable.training.objective import Batch, Objective
from trainable.training.ranks import Ranks
from trainable.training.trainer import build_optimizer, has_native_bf16
from trainable.training.zero_shot import PromptTokens

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
WORTH_DOUBLING = 1.02
"""How much faster a doubled batch must be for the next doubling."""
REPEATS = 5

PEAK_BF16_FLOPS = {
    "NVIDIA A10": 125e12,
    "NVIDIA A30": 165e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}
"""Dense bf16 on tensor cores, per second, from NVIDIA's data sheets, which since Hopper print twice as much, with
sparsity: https://www.nvidia.com/en-us/data-center/ a10, a30, a100, l4, l40s, h100, h200 and hgx (B200)."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model to train."""

    name: str
    config: TrialConfig
    image_size: int
    channels: int
    first_batch: int
    largest_batch: int = 2**16
    block_seconds: float = 2.0
    """Least duration of one of the `REPEATS` timed blocks of steps."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The figures of one model at one batch."""

    case: str
    compiled: bool
    batch: int
    images_per_second: float
    step_seconds: float
    """Median over the timed blocks."""
    start_seconds: float
    next_start_seconds: float
    peak_memory_bytes: int | None
    """Most that tensors held on the device; None on a CPU."""
    flops_per_step: int = 0
    """Counted apart, as is what follows from it."""
    utilisation: float | None = None
    """Share of the device's peak; None where that is not known."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="How well training uses an accelerator.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: toy sizes (default: cuda)")
    return run_command(partial(_benchmark, parser.parse_args(argv).device))


def _benchmark(name: str) -> int:
    device = find_device(name)
    with tempfile.TemporaryDirectory() as folder, process_group(device), fresh_cache():
        cases = full_cases(Path(folder)) if name == "cuda" else toy_cases(Path(folder))
        runs = [run for case in cases for run in measure_case(case, device)]
    report(runs, device)
    return 0


def find_device(name: str) -> torch.device:
    """The device to measure. Raises `ResourceError` where it is not there, or has no bf16 arithmetic."""
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ResourceError(
            "this benchmark must have an NVIDIA GPU, but torch sees none here, so nothing was measured; run it where "
            "one is, or see with --device cpu that it runs."
        )
    device = torch.device("cuda", 0)
    if not has_native_bf16(device):
        raise ResourceError(
            f"this benchmark must have a GPU with bf16 arithmetic, Ampere or later, but {device_name(device)} has none."
        )
    torch.cuda.set_device(device)
    return device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """A group of this process alone: NCCL on a GPU, gloo on a CPU."""
    store = dist.TCPStore("127.0.0.1", 0, world_size=1, is_master=True)  # port 0: any that is free
    backend, bound = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=bound)
    try:
        yield
    finally:
        dist.destroy_process_group()


def full_cases(folder: Path) -> list[Case]:
    """The smallest transformer of this project, and a usual large model."""
    large = TrialConfig(
        image_tower=written(folder / "vit-b-16", ViTConfig()),
        text_tower=written(folder / "bert-base", BertConfig()),
        weight_init="trunc_normal",
        embedding_dim=512,
    )
    tiny = TrialConfig(image_tower="vit-tiny")
    return [
        Case(name="vit-tiny, 48 px", config=tiny, image_size=48, channels=1, first_batch=256),
        Case(name="ViT-B/16, 224 px", config=large, image_size=224, channels=3, first_batch=32),
    ]


def toy_cases(folder: Path) -> list[Case]:
    """The same paths through the code, as small as they get."""
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = TrialConfig(
        image_tower=written(folder / "vit", ViTConfig(image_size=16, patch_size=8, **size)),
        text_tower=written(folder / "bert", BertConfig(vocab_size=len(ByT5Tokenizer()), **size)),
        weight_init="trunc_normal",
    )
    tiny = TrialConfig(image_tower="vit-tiny")
    short: dict[str, Any] = {"first_batch": 8, "block_seconds": 0}
    return [
        Case(name="vit-tiny, 12 px", config=tiny, image_size=12, channels=1, largest_batch=8, **short),
        Case(name="toy ViT, 16 px", config=config, image_size=16, channels=3, largest_batch=16, **short),
    ]


def written(folder: Path, config: PreTrainedConfig) -> str:
    """A tower's folder as save_pretrained writes it, without weights; texts are read as bytes."""
    config.save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)
    return str(folder)


def measure_case(case: Case, device: torch.device) -> list[Run]:
    """The best batch of a model as it is, and that of the compiled one, looked for from half of that batch on."""
    flops, peak = step_flops(case, device), peak_flops(device_name(device))
    release_memory()
    runs: list[Run] = []
    for compiled in (False, True):
        first = max(case.first_batch, runs[0].batch // 2) if runs else case.first_batch
        run = best_run(partial(measure, case, compiled=compiled, device=device), first, case.largest_batch)
        if run is None:
            raise ResourceError(f"{case.name} must fit into the device's memory with {first} images, but does not.")
        count = flops(run.batch)
        reached = count / run.step_seconds / peak if peak else None
        runs.append(replace(run, flops_per_step=count, utilisation=reached))
    return runs


def best_run(measure_batch: Callable[[int], Run], first: int, largest: int) -> Run | None:
    """Double the batch until images per second stop rising or memory ends; None where not even the first one fits."""
    best: Run | None = None
    batch = first
    while batch <= largest:
        try:
            run = measure_batch(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        finally:
            release_memory()
        if best is not None and run.images_per_second < WORTH_DOUBLING * best.images_per_second:
            return max(best, run, key=lambda run: run.images_per_second)
        best, batch = run, 2 * batch
    return best


def measure(case: Case, batch: int, *, compiled: bool, device: torch.device) -> Run:
    """Train one model at one batch; code is compiled for this batch alone."""
    torch.compiler.reset()
    config = replace(case.config, batch_size=batch, compile=compiled, precision="bf16")
    start, step = first_step(case, config, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = timed(step, device, case.block_seconds)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    del step
    release_memory()
    return Run(
        case=case.name,
        compiled=compiled,
        batch=batch,
        images_per_second=batch / seconds,
        step_seconds=seconds,
        start_seconds=start,
        next_start_seconds=first_step(case, replace(config, seed=1), device)[0],
        peak_memory_bytes=memory,
    )


def first_step(case: Case, config: TrialConfig, device: torch.device) -> tuple[float, Callable[[], None]]:
    """Build a model and train one step; returns the seconds that took, and what trains another step."""
    start = time.perf_counter()
    step = partial(train_step, *build_training(case, config, device))
    step()
    synchronise(device)
    return time.perf_counter() - start, step


def build_training(
    case: Case, config: TrialConfig, device: torch.device
) -> tuple[DualEncoder, Objective, torch.optim.Optimizer, Batch]:
    """Everything that a step needs, as the trainer builds it for one of several workers."""
    model = build_model(case, config, device)
    apply_tower_options(model, config, device)
    unused = getattr(model.text_tower.backbone, "pooler", None) is not None  # no feature passes through it
    workers = DistributedDataParallel(model, gradient_as_bucket_view=True, find_unused_parameters=unused)
    objective = Objective(workers, config.loss, Ranks.current(), partial(torch.autocast, device.type, torch.bfloat16))
    model.train()
    return model, objective, build_optimizer(model, config), random_batch(model, case, config.batch_size, device)


def build_model(case: Case, config: TrialConfig, device: torch.device) -> DualEncoder:
    """The model on the device, its memory laid out as the trainer does."""
    model = build_dual_encoder(
        config, image_size=case.image_size, channels=case.channels, mean=0.5, std=0.25, classes=len(CLASSES)
    )
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def random_batch(model: DualEncoder, case: Case, batch: int, device: torch.device) -> Batch:
    """Random pixels on the device, labels in turn, the first prompt of each class."""
    generator = torch.Generator(device).manual_seed(0)
    images = torch.rand((batch, case.channels, case.image_size, case.image_size), generator=generator, device=device)
    tokens = PromptTokens.of(model, prompts(CLASSES, "en"), device)
    labels = torch.arange(batch, device=device) % len(CLASSES)
    return Batch(images, labels, tokens.tokens[:, 0], tokens.mask[:, 0])


def train_step(model: DualEncoder, objective: Objective, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """One optimiser step."""
    optimizer.zero_grad(set_to_none=True)
    objective.backward(batch)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.clamp_logit_scale()


def timed(step: Callable[[], None], device: torch.device, block_seconds: float) -> float:
    """Median seconds of a step over `REPEATS` blocks, each of as many steps as take `block_seconds`."""
    step()  # after the second one memory is laid out
    steps = max(1, round(block_seconds / _block(step, device, 1)))
    return statistics.median(_block(step, device, steps) for _ in range(REPEATS))


def _block(step: Callable[[], None], device: torch.device, steps: int) -> float:
    synchronise(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(device)
    return (time.perf_counter() - start) / steps


def step_flops(case: Case, device: torch.device) -> Callable[[int], int]:
    """FLOPs of forward and backward as a function of the batch.

    They are a + bB + cB²: prompts, images, and the loss, which compares all with all. Three small batches, counted,
    settle the three.
    """
    batches = (8, 16, 32)  # each has all classes, and so all prompts
    counts = [counted_flops(case, batch, device) for batch in batches]
    return lambda batch: round(float(np.polyval(np.polyfit(batches, counts, 2), batch)))


def counted_flops(case: Case, batch: int, device: torch.device) -> int:
    """FLOPs of forward and backward of one batch."""
    model = build_model(case, case.config, device).train()
    objective = Objective(
        model, case.config.loss, Ranks.current(), partial(torch.autocast, device.type, torch.bfloat16)
    )
    data = random_batch(model, case, batch, device)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        objective.backward(data)
    return int(counter.get_total_flops())


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was asked for; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory() -> None:
    """Free what nothing refers to any more, so that each run finds the device empty."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def peak_flops(name: str) -> float | None:
    """The device's peak by its data sheet; None for one that is not known, or a part of one."""
    if " MIG " in name:
        return None
    known = [key for key in PEAK_BF16_FLOPS if re.match(rf"{key}(?!\w)", name)]
    return PEAK_BF16_FLOPS[max(known, key=len)] if known else None


def report(runs: list[Run], device: torch.device) -> None:
    """Print the table, what is missing from it and why, and the JSON object."""
    name = device_name(device)
    peak = peak_flops(name)
    table = Table("", "code", "batch", "images/s", "step [s]", "start [s]", "next [s]", "GiB", "MFU")
    for run in runs:
        memory = "" if run.peak_memory_bytes is None else f"{run.peak_memory_bytes / 2**30:.1f}"
        seconds = (f"{run.step_seconds:.4f}", f"{run.start_seconds:.1f}", f"{run.next_start_seconds:.1f}")
        utilisation = "" if run.utilisation is None else f"{run.utilisation:.1%}"
        code = "compiled" if run.compiled else "eager"
        table.add_row(run.case, code, str(run.batch), f"{run.images_per_second:.0f}", *seconds, memory, utilisation)
    Console().print(table)
    if peak is None:
        print(f"No MFU: the peak bf16 rate of {name} is not among those known here.")
    print(json.dumps({"device": name, "peak_flops": peak, "runs": [asdict(run) for run in runs], **machine(device)}))


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions, with those of the accelerator's libraries."""
    gpus = [device_name(device)] if device.type == "cuda" else []
    accelerator = {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if gpus else None,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    return {"hardware": hardware(gpus), "versions": {**versions(), **accelerator}}


if __name__ == "__main__":
    sys.exit(main())
