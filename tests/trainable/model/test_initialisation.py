import math

import pytest
import torch
from torch import nn

from trainable.errors import ConfigError
from trainable.model.initialisation import SCHEMES, initialise


def drawn(scheme: str, module: nn.Module, seed: int = 0) -> nn.Module:
    initialise(module, scheme, torch.Generator().manual_seed(seed))
    return module


@pytest.mark.parametrize(
    ("scheme", "std"),
    [
        ("trunc_normal", 0.02 * 0.88),  # a normal cut at two deviations has 0.88 of its deviation
        ("xavier", math.sqrt(2 / (400 + 200))),
        ("kaiming", math.sqrt(2 / 200)),
        ("orthogonal", math.sqrt(1 / 400)),
    ],
)
def test_the_deviation_of_a_linear_layer_is_the_schemes(scheme: str, std: float) -> None:
    layer = drawn(scheme, nn.Linear(400, 200))

    assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.02)
    assert not layer.bias.detach().any()


def test_orthogonal_rows_are_orthonormal() -> None:
    weight = drawn("orthogonal", nn.Linear(64, 16)).weight.detach()

    assert torch.allclose(weight @ weight.T, torch.eye(16), atol=1e-5)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_the_generator_alone_decides(scheme: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Embedding(9, 5, padding_idx=0))

    first = {name: tensor.clone() for name, tensor in drawn(scheme, module, seed=1).state_dict().items()}
    torch.manual_seed(99)
    same = drawn(scheme, module, seed=1).state_dict()
    assert all(torch.equal(first[name], same[name]) for name in first)

    other = drawn(scheme, module, seed=2).state_dict()
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert not other["2.weight"][0].any()


def test_norms_become_the_identity_again() -> None:
    norm = nn.LayerNorm(3)
    nn.init.constant_(norm.weight, 5.0)

    assert drawn("xavier", norm).weight.tolist() == [1, 1, 1]


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'kaimin'.*Did you mean 'kaiming'"):
        drawn("kaimin", nn.Linear(2, 2))
