"""What the tests of compiled towers share."""

import functools
from collections.abc import Callable, Iterator

import pytest


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
