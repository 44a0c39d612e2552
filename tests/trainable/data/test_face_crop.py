"""Faces in pictures that show more than a face."""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from trainable.data import face_crop
from trainable.data.action_units import PROTOTYPES
from trainable.data.face_crop import crop_face, largest_face
from trainable.data.gallery import model_face

PHOTO = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def drawn(side: int) -> np.ndarray:
    face = Image.fromarray((model_face(PROTOTYPES["happy"]) * 255).astype(np.uint8))
    return np.asarray(face.resize((side, side)))


def wall(*faces: tuple[int, int, int]) -> Image.Image:
    """A gray wall of 600 x 800 with drawn faces on it: left, top and side of each."""
    pixels = np.full((600, 800), 180, np.uint8)
    for left, top, side in faces:
        pixels[top : top + side, left : left + side] = drawn(side)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[face_crop.Box | None]:
    """What the detector says is what stands in this list."""
    says: list[face_crop.Box | None] = [None]
    monkeypatch.setattr(face_crop, "largest_face", lambda gray: says[0])
    return says


@pytest.mark.skipif(not PHOTO.is_file(), reason="needs the photo that matplotlib brings along")
def test_the_face_on_a_photo_is_found() -> None:
    face = crop_face(PHOTO, 48)
    assert face.box is not None
    left, top, width, height = face.box
    assert left < 220 < 310 < left + width  # the eyes
    assert top < 200 < 270 < top + height  # eyes and mouth
    assert face.pixels is not None
    assert face.pixels.shape == (96, 96, 3)


def test_of_several_faces_the_largest_is_taken() -> None:
    box = largest_face(np.asarray(wall((40, 60, 144), (380, 200, 320))))
    assert box is not None
    left, top, width, height = box
    assert 380 < left < left + width < 700
    assert 200 < top < top + height < 520


def test_a_box_is_told_in_the_pixels_of_the_upright_picture(fake: list[face_crop.Box | None]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture = Image.fromarray(np.arange(1280 * 640, dtype=np.uint32).reshape(640, 1280).astype(np.uint8))
    fake[0] = (10, 20, 100, 110)  # of 320 x 640: the picture is looked through at half its size
    face = crop_face(encoded(picture, exif=exif), 300)
    assert face.box == (20, 40, 200, 220)
    assert face.pixels is not None
    expected = picture.transpose(Image.Transpose.ROTATE_270).convert("RGB").crop((20, 40, 220, 260))
    assert np.array_equal(face.pixels, np.asarray(expected))


@pytest.mark.parametrize(
    ("side", "found", "box", "is_missing"),
    [
        (150, (0, 0, 50, 50), None, False),  # at most 1.5 times what the model takes
        (151, (0, 0, 50, 50), (0, 0, 50, 50), False),
        (200, (0, 0, 120, 120), None, False),  # the face fills the picture
        (200, (0, 0, 119, 119), (0, 0, 119, 119), False),
        (200, None, None, True),
    ],
)
def test_a_picture_that_is_a_crop_is_left_whole(
    side: int,
    found: face_crop.Box | None,
    box: face_crop.Box | None,
    is_missing: bool,
    fake: list[face_crop.Box | None],
) -> None:
    fake[0] = found
    face = crop_face(encoded(Image.new("L", (side, side + 40))), 100)
    assert (face.box, face.is_missing) == (box, is_missing)
    assert (face.pixels is None) == (box is None)


def test_noise_has_no_face() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    assert largest_face(noise) is None
