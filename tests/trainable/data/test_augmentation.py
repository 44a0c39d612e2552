import math

import pytest
import torch

from trainable.data import augmentation
from trainable.data.augmentation import augment
from trainable.errors import ConfigError

SIDE = 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8) -> torch.Tensor:
    return torch.rand((count, 1, SIDE, SIDE), generator=generator(7))


def test_strength_zero_returns_the_input_and_draws_nothing() -> None:
    images, source = batch(), generator()
    before = source.get_state()
    assert augment(images, 0.0, source) is images
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("strength", [-0.1, 1.5, math.nan])
def test_strength_outside_its_domain_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="0 <= augmentation strength <= 1"):
        augment(batch(), strength, generator())


def test_same_generator_state_gives_same_batch_whatever_the_global_one() -> None:
    torch.manual_seed(1)
    first = augment(batch(), 0.7, generator())
    torch.manual_seed(2)
    assert torch.equal(first, augment(batch(), 0.7, generator()))
    assert not torch.equal(first, augment(batch(), 0.7, generator(1)))


def test_input_is_kept_and_output_has_its_shape_and_range() -> None:
    images = batch()
    copy = images.clone()
    result = augment(images, 1.0, generator())
    assert torch.equal(images, copy)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


def test_images_of_a_batch_are_augmented_differently() -> None:
    images = batch(1).expand(16, -1, -1, -1)
    result = augment(images, 0.5, generator()).flatten(1)
    assert len({tuple(row.tolist()) for row in result}) == 16


def spot(x: float, y: float) -> torch.Tensor:
    """An image with one smooth bright spot at (x, y), in cells from the upper left corner."""
    cells = torch.arange(SIDE) + 0.5
    return torch.exp(-((cells[None, :] - x) ** 2 + (cells[:, None] - y) ** 2) / 8)[None, None]


def centre(image: torch.Tensor) -> tuple[float, float]:
    cells = torch.arange(SIDE) + 0.5
    mass = image[0, 0]
    return float((mass.sum(0) * cells).sum() / mass.sum()), float((mass.sum(1) * cells).sum() / mass.sum())


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ((0.9, 0.5, 0.5, 0.5, 0.5), (22.0, 12.0)),  # none
        ((0.1, 0.5, 0.5, 0.5, 0.5), (10.0, 12.0)),  # flip: 32 - 22
        ((0.9, 0.5, 1.0, 0.5, 0.5), (22.0 - 0.15 * SIDE, 12.0)),  # shift, a whole MAX_SHIFT
        ((0.9, 0.5, 0.5, 0.0, 0.5), (22.0, 12.0 + 0.15 * SIDE)),
        ((0.9, 0.5, 0.5, 0.5, 1.0), (16 + 6 * 1.2, 16 - 4 * 1.2)),  # scale about the centre
        (
            (0.9, 1.0, 0.5, 0.5, 0.5),  # rotation by 20 degrees about the centre
            (
                16 + 6 * math.cos(math.radians(20)) - 4 * math.sin(math.radians(20)),
                16 - 4 * math.cos(math.radians(20)) - 6 * math.sin(math.radians(20)),
            ),
        ),
    ],
)
def test_geometry_moves_a_spot_to_where_it_should_be(draws: tuple[float, ...], expected: tuple[float, float]) -> None:
    maps = augmentation._affine_maps(1.0, *(torch.tensor([draw]) for draw in draws))
    moved = augmentation._warp(spot(22.0, 12.0), maps)
    assert centre(moved) == pytest.approx(expected, abs=0.05)


def test_recolouring_changes_mean_by_the_offset_and_deviation_by_the_factor() -> None:
    images = 0.5 + 0.1 * (batch(1) - 0.5)
    result = augmentation._recolour(images, 0.5, contrast=torch.tensor([1.0]), brightness=torch.tensor([0.0]))
    assert float(result.mean()) == pytest.approx(float(images.mean()) - 0.2, abs=1e-6)
    assert float(result.std()) == pytest.approx(1.2 * float(images.std()), rel=1e-4)


def test_erasing_replaces_one_rectangle_of_the_stated_area() -> None:
    count = 400
    images = torch.full((count, 1, SIDE, SIDE), 2.0)
    noise = torch.zeros_like(images)
    draws = torch.rand((5, count), generator=generator(3))
    erased = augmentation._erase(images, 0.5, noise, *draws)[:, 0] == 0
    area = erased.float().mean(dim=(1, 2))
    touched = area > 0
    assert 0.2 < float(touched.float().mean()) < 0.3
    assert float(area[touched].min()) > 1 / 16 * 0.7
    assert float(area[touched].max()) < 1 / 6 * 1.3
    for mask in erased[touched]:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])


def test_colour_images_keep_their_channels_together() -> None:
    images = batch(4).expand(-1, 3, -1, -1)
    warped = augmentation._warp(images, augmentation._affine_maps(0.5, *torch.rand((5, 4), generator=generator())))
    assert torch.equal(warped[:, 0], warped[:, 2])


def test_mixed_images_are_the_mean_of_two_and_belong_to_both_by_half() -> None:
    images, shares = torch.rand(6, 1, 2, 2, generator=generator(5)), torch.eye(6)
    mixed, belonging = augmentation.mix(images, shares, 0.5, generator(7))

    for row in range(6):
        classes = belonging[row].nonzero().flatten().tolist()
        other = next((c for c in classes if c != row), row)
        assert row < 3 or classes == [row]
        assert torch.equal(mixed[row], (images[row] + images[other]) / 2)
        assert torch.equal(belonging[row], (shares[row] + shares[other]) / 2)
    assert any(len(row.nonzero()) == 2 for row in belonging[:3])


def test_without_mixing_a_batch_stays_itself_and_nothing_is_drawn() -> None:
    images, shares, drawn = torch.rand(4, 1, 2, 2), torch.eye(4), generator(1)
    before = drawn.get_state()

    assert augmentation.mix(images, shares, 0.0, drawn) == (images, shares)
    assert torch.equal(drawn.get_state(), before)
