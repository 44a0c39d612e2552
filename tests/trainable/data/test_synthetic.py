import itertools

import numpy as np
import pytest

from trainable.data.action_units import BASIC_PROTOTYPES, COMPOUND_PROTOTYPES, PROTOTYPES, UNIT_NUMBERS
from trainable.data.canvas import Canvas, blur
from trainable.data.faces import TRAIT_NAMES, draw
from trainable.data.shapes import EFFECTS, SHAPE_NAMES, Shape
from trainable.data.source import Record
from trainable.data.synthetic import (
    CLASSES,
    UNSEEN_CLASSES,
    _intensities,
    draw_faces,
    read_synthetic,
    roll_faces,
    split_labels,
)
from trainable.data.vocabulary import VOCABULARIES
from trainable.errors import DataError


def records(**sizes: int) -> list[Record]:
    found = list(read_synthetic(**sizes).records)
    assert all(isinstance(record, Record) for record in found)
    return [record for record in found if isinstance(record, Record)]


SMALL = {"train": 70, "validation": 21, "test": 14, "compounds_per_class": 2}


def test_classes_are_the_vocabularies() -> None:
    assert VOCABULARIES["basic7"] + VOCABULARIES["compound15"] == CLASSES
    assert VOCABULARIES["compound15"] == UNSEEN_CLASSES


def test_splits_are_balanced_and_compounds_stay_out_of_training() -> None:
    source = read_synthetic(**SMALL)
    found = records(**SMALL)
    counts = {
        split: np.bincount([r.label for r in found if r.split == split], minlength=22).tolist()
        for split in ("train", "validation", "test")
    }
    assert counts == {
        "train": [10] * 7 + [0] * 15,
        "validation": [3] * 7 + [2] * 15,
        "test": [2] * 7 + [2] * 15,
    }
    assert source.total == len(found) == 165
    assert source.classes == CLASSES
    assert all(np.asarray(r.image).shape == (48, 48) and np.asarray(r.image).dtype == np.uint8 for r in found)


def test_image_is_a_pure_function_of_seed_split_and_index() -> None:
    whole = [np.asarray(r.image) for r in records(**SMALL)]
    assert all(np.array_equal(a, r.image) for a, r in zip(whole, records(**SMALL), strict=True))
    labels = split_labels(70, 0)
    alone = draw_faces(labels[66:67], roll_faces(0, "train", 66, 1))
    assert np.array_equal(alone[0], whole[66])
    more = records(**SMALL | {"train": 140})
    assert all(np.array_equal(a, r.image) for a, r in zip(whole[:70], more, strict=False))


def test_no_two_images_are_alike_over_splits_and_seeds() -> None:
    images = [np.asarray(r.image).tobytes() for seed in (0, 1) for r in records(**SMALL, seed=seed)]
    assert len(set(images)) == len(images)


def test_other_image_size() -> None:
    images = [np.asarray(r.image) for r in records(train=7, validation=1, test=1, compounds_per_class=0, image_size=96)]
    assert {image.shape for image in images} == {(96, 96)}


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"train": 0}, "train >= 1 image"),
        ({"test": -1}, "test >= 1 image"),
        ({"compounds_per_class": -1}, "compounds_per_class >= 0"),
        ({"seed": -1}, "seed >= 0"),
        ({"image_size": 8}, "image_size >= 16"),
    ],
)
def test_sizes_out_of_their_domain_are_refused(options: dict[str, int], rule: str) -> None:
    with pytest.raises(DataError, match=rule):
        read_synthetic(**options)


def test_units_are_active_as_often_as_the_paper_counted_them() -> None:
    label = CLASSES.index("sadly_disgusted")
    rolls = roll_faces(0, "test", 0, 600)[:, len(TRAIT_NAMES) : -1]
    active = (_intensities(np.full(600, label), rolls).mean(axis=1) > 0.41).mean(axis=0)
    share = dict(zip(UNIT_NUMBERS, active, strict=True))
    for unit in (4, 10):
        assert share[unit] == 1
    for unit, expected in {1: 0.49, 6: 0.61, 9: 0.20, 11: 0.35, 15: 0.54, 17: 0.47, 25: 0.43}.items():
        assert share[unit] == pytest.approx(expected, abs=0.07)
    for unit in (2, 5, 7, 12, 20, 23, 24, 26, 27):
        assert share[unit] == 0


def test_neutral_face_rests() -> None:
    rolls = roll_faces(0, "train", 0, 200)[:, len(TRAIT_NAMES) : -1]
    intensities = _intensities(np.full(200, CLASSES.index("neutral")), rolls)
    assert intensities.mean() < 0.08
    assert intensities.max() < 0.5


def test_every_class_has_prototypes_of_its_own() -> None:
    assert len(BASIC_PROTOTYPES) == 7
    assert len(COMPOUND_PROTOTYPES) == 15
    for one, other in itertools.combinations(PROTOTYPES, 2):
        assert not np.allclose(PROTOTYPES[one].probabilities(), PROTOTYPES[other].probabilities(), atol=0.2), (
            one,
            other,
        )


def alone(unit: int, size: int = 48) -> np.ndarray:
    """The mean face with one unit fully active; unit 0 is none."""
    intensities = np.zeros((1, 2, len(UNIT_NUMBERS)))
    if unit:
        intensities[:, :, UNIT_NUMBERS.index(unit)] = 1
    traits = np.full((1, len(TRAIT_NAMES)), 0.5)
    return draw(traits, intensities, size)[0]


@pytest.mark.parametrize("unit", UNIT_NUMBERS)
def test_every_unit_moves_its_own_part_of_the_face(unit: int) -> None:
    changed = np.abs(alone(unit) - alone(0))
    upper, lower = changed[:24].sum(), changed[24:].sum()
    assert changed.max() > 0.05
    assert upper > lower if unit in (1, 2, 4, 5, 7) else lower > 0.5 * upper


def test_mouth_corners_rise_in_a_smile_and_fall_in_a_frown() -> None:
    shapes = {unit: np.zeros((1, 2, len(UNIT_NUMBERS))) for unit in (12, 15)}
    for unit, intensities in shapes.items():
        intensities[:, :, UNIT_NUMBERS.index(unit)] = 1
    assert Shape(shapes[12]).mean("corner") < 0 < Shape(shapes[15]).mean("corner")


def test_blend_adds_single_and_joint_effects_per_side() -> None:
    rng = np.random.default_rng(0)
    intensities = rng.random((3, 2, len(UNIT_NUMBERS)))
    shape = Shape(intensities)
    for face, name in itertools.product(range(3), SHAPE_NAMES):
        for side, offset in ((0, shape.left(name)), (1, shape.right(name))):
            expected = 0.0
            for units, offsets in EFFECTS.items():
                amount = 1.0
                for unit in units:
                    amount *= intensities[face, side, UNIT_NUMBERS.index(unit)]
                expected += amount * offsets.get(name, 0.0)
            assert offset[face, 0, 0] == pytest.approx(expected, abs=1e-5)


def test_mirrored_intensities_give_the_mirrored_face() -> None:
    traits = np.full((1, len(TRAIT_NAMES)), 0.5)
    traits[0, TRAIT_NAMES.index("light")] = 0
    one_sided = np.random.default_rng(1).random((1, 2, len(UNIT_NUMBERS)))
    left, right = draw(traits, one_sided, 48), draw(traits, one_sided[:, ::-1], 48)
    assert np.abs(left - right[:, :, ::-1]).mean() < 0.005
    assert np.abs(left - right).mean() > 0.005


def test_canvas_disc_has_its_area_and_line_its_thickness() -> None:
    cells = (np.arange(64, dtype=np.float32) + 0.5) / 32 - 1
    u, v = np.broadcast_to(cells[None, None, :], (1, 64, 64)), np.broadcast_to(cells[None, :, None], (1, 64, 64))
    canvas = Canvas(np.zeros((1, 64, 64), dtype=np.float32), u, v, 2 / 64)
    assert canvas.disc(0.1, 0, 0.5, 0.5).mean() * 4 == pytest.approx(np.pi * 0.25, rel=0.02)
    for thickness in (0.2, 0.01):
        assert canvas.line(v - 0.013, thickness).mean() * 4 / 2 == pytest.approx(thickness, rel=0.05)


def test_blur_keeps_the_mean_of_an_inner_spot_and_spreads_it() -> None:
    pixels = np.zeros((1, 9, 9), dtype=np.float32)
    pixels[0, 4, 4] = 1
    spread = blur(pixels, np.full((1, 1, 1), 0.1, dtype=np.float32))
    assert spread.sum() == pytest.approx(1)
    assert spread[0, 4, 4] == pytest.approx((0.8**2 + 2 * 0.1**2) ** 2)
    assert np.array_equal(blur(pixels, np.zeros((1, 1, 1))), pixels)
