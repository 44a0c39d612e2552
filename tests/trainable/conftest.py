"""What the tests of one trial share: a model on disk, and compiled towers."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model: what it says is as definite as what a trained one says."""
    import torch

    from trainable.config import TrialConfig
    from trainable.data.store import Store
    from trainable.training.device_data import DeviceData
    from trainable.training.predictor import save_model
    from trainable.training.trainer import Trainer

    trainer = Trainer(TrialConfig(embedding_dim=16), DeviceData(Store.open(faces), torch.device("cpu")))
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, trainer.model, trainer.config, trainer.data, epoch=1)
    return folder


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """No code compiled before this test, in the process or on disk."""
    import torch
    from torch._dynamo.utils import counters
    from torch._inductor.utils import fresh_cache

    from trainable.model.tower_options import require_compiler

    require_compiler.cache_clear()
    torch.compiler.reset()
    counters.clear()
    with fresh_cache():
        yield
    torch.compiler.reset()


@pytest.fixture
def compiled_graphs(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many graphs this test has compiled so far.

    Towers are captured, guarded and differentiated as ever, but their graphs run without machine code, which takes a
    C++ compiler a minute.
    """
    import torch
    from torch._dynamo.utils import counters

    from trainable.model import tower_options

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(tower_options, "require_compiler", lambda device: None)
    return lambda: int(counters["stats"]["unique_graphs"])
