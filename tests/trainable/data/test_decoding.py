import functools
import io
import os

import numpy as np
import pytest
from PIL import Image

from trainable.data import decoding
from trainable.data.decoding import decode_all, decode_chunk, decode_image
from trainable.data.source import BrokenRecord, Record
from trainable.errors import DataError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (48, 48), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (48, 48, 3), dtype=np.uint8)


def encoded(pixels, form="PNG", **options):
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, form, **options)
    return sink.getvalue()


def record(image, split="train", label=0, origin="here"):
    return Record(split=split, label=label, image=image, origin=origin)


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP"])
def test_pixels_of_the_right_size_are_kept(tmp_path, form):
    content = encoded(GRAY, form, **({"lossless": True} if form == "WEBP" else {}))
    (tmp_path / "picture").write_bytes(content)
    text = " ".join(map(str, GRAY.reshape(-1)))
    for image in (content, tmp_path / "picture", GRAY, text):
        decoded = decode_image(image, 48, 1)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, GRAY)


def test_a_gray_jpeg_decodes_as_pillow_does():
    content = encoded(GRAY, "JPEG", quality=90)
    np.testing.assert_array_equal(decode_image(content, 48, 1), np.asarray(Image.open(io.BytesIO(content))))


def test_colour_becomes_gray_and_gray_becomes_colour():
    np.testing.assert_array_equal(
        decode_image(encoded(COLOUR), 48, 1), np.asarray(Image.fromarray(COLOUR).convert("L"))
    )
    np.testing.assert_array_equal(decode_image(encoded(COLOUR), 48, 3), COLOUR)
    np.testing.assert_array_equal(decode_image(GRAY, 48, 3), np.stack([GRAY] * 3, axis=-1))


def test_a_wide_picture_is_cropped_to_its_middle():
    wide = np.zeros((40, 100), np.uint8)
    wide[:, 25:75] = 200
    assert decode_image(encoded(wide), 20, 1).min() == 200


def test_a_large_photo_is_reduced_without_aliasing():
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 255
    for content in (encoded(stripes), encoded(stripes, "JPEG", quality=95)):
        reduced = decode_image(content, 32, 1)
        assert reduced.shape == (32, 32)
        assert np.abs(reduced.astype(int) - 127).max() <= 8


def test_a_photo_is_turned_upright():
    picture = np.zeros((32, 32), np.uint8)
    picture[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: upright is a quarter turn to the right
    turned = decode_image(encoded(picture, exif=exif), 32, 1)
    np.testing.assert_array_equal(turned, np.rot90(picture, -1))


def test_sixteen_bits_are_scaled_to_eight():
    deep = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    np.testing.assert_array_equal(decode_image(encoded(deep), 8, 1), deep // 256)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"not a picture", "not an image that Pillow can read"),
        (encoded(GRAY)[:500], "truncated|broken|unrecognized"),
        ("1 2 3", "its pixels must fill a square, but there are 3"),
        ("", "its pixels must fill a square, but there are 0"),
        ("1 2 x 4", "its pixels must be numbers separated by spaces"),
        ("1 2 3 256", "its pixels must be 0 to 255, but are 1 to 256"),
        ("1 -2 3 4", "its pixels must be 0 to 255, but are -2 to 4"),
        (GRAY.astype(float), r"an array must be uint8 .*, but is float64 \(48, 48\)"),
    ],
)
def test_what_cannot_be_decoded_is_named_and_left_out(image, reason):
    records = [record(GRAY, label=3), record(image, origin="bad.csv, line 7"), record(GRAY[::-1], label=4)]
    chunk = decode_chunk(records, 48, 1)
    assert chunk.labels.tolist() == [3, 4]
    np.testing.assert_array_equal(chunk.images, [GRAY, GRAY[::-1]])
    (broken,) = chunk.broken
    assert broken.origin == "bad.csv, line 7"
    with pytest.raises(ValueError, match=reason):
        raise ValueError(broken.reason)
    assert chunk.records == 3


def test_a_missing_file_is_broken(tmp_path):
    (broken,) = decode_chunk([record(tmp_path / "gone.png")], 48, 1).broken
    assert "No such file" in broken.reason


def test_records_that_come_broken_stay_so():
    chunk = decode_chunk([BrokenRecord(origin="row 1", reason="it has no image")], 48, 3)
    assert chunk.images.shape == (0, 48, 48, 3)
    assert chunk.broken == [BrokenRecord(origin="row 1", reason="it has no image")]


@pytest.mark.parametrize(
    ("pixels", "flat"),
    [
        (np.full((48, 48), 7, np.uint8), True),
        (np.where(GRAY > 127, 100, 104).astype(np.uint8), True),
        (np.where(GRAY > 127, 100, 105).astype(np.uint8), False),
        (GRAY, False),
    ],
)
def test_flat_images_are_found(pixels, flat):
    assert decode_chunk([record(pixels)], 48, 1).flat.tolist() == [flat]


def test_one_colour_is_flat_though_its_channels_differ():
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 0] = 200
    assert decode_chunk([record(red), record(COLOUR)], 48, 3).flat.tolist() == [True, False]


def test_digests_are_equal_for_equal_pixels_only():
    a, b, c = decode_chunk([record(GRAY), record(encoded(GRAY)), record(GRAY ^ 1)], 48, 1).digests
    assert a == b != c


def many(count):
    return [record(encoded(GRAY ^ np.uint8(row)), label=row, split="test") for row in range(count)]


def test_processes_decode_the_same_in_the_same_order(monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK_RECORDS", 8)
    records = many(50)
    alone = list(decode_all(iter(records), 48, 1, workers=1))
    together = list(decode_all(iter(records), 48, 1, workers=2))
    assert [chunk.records for chunk in alone] == [chunk.records for chunk in together] == [8] * 6 + [2]
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.labels, two.labels)
        assert one.digests == two.digests


def test_records_are_read_as_they_are_needed(monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK_RECORDS", 4)
    read = []
    records = (read.append(row) or record(GRAY, label=row) for row in range(1000))
    next(decode_all(records, 48, 1, workers=1))
    assert len(read) == 8


@pytest.mark.parametrize("records", [many(3), [record(GRAY)] * 2000])
def test_small_sets_and_arrays_start_no_process(monkeypatch, records):
    monkeypatch.setattr(decoding, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("started a pool"))
    assert sum(chunk.records for chunk in decode_all(records, 48, 1, workers=2)) == len(records)


def test_chunks_of_large_images_are_small():
    chunk = next(decode_all([record(GRAY)] * 40, 512, 3, workers=1))
    assert chunk.images.nbytes <= decoding.CHUNK_BYTES


def test_a_process_that_dies_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK_RECORDS", 2)
    monkeypatch.setattr(decoding, "_leave_interrupts_to_parent", functools.partial(os._exit, 1))
    with pytest.raises(DataError, match=r"must live to the end, but one died.*`glance-prepare --workers 1`"):
        list(decode_all(many(8), 48, 1, workers=2))


@pytest.mark.parametrize("side", [32, 512])
def test_a_face_box_is_cropped_also_from_a_jpeg_that_is_decoded_smaller(side):
    pixels = np.zeros((side, side), np.uint8)
    pixels[side // 2 :, side // 2 :] = 200
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=95)
    decoded = decode_image(sink.getvalue(), 8, 1, (side // 2, side // 2, side // 2, side // 2))
    assert abs(float(np.median(decoded)) - 200) <= 2


def test_a_face_box_that_goes_beyond_the_image_is_cut_and_one_outside_is_refused():
    sink = io.BytesIO()
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(sink, "PNG")
    assert (decode_image(sink.getvalue(), 8, 1, (-5, 10, 30, 30)) == 90).all()
    with pytest.raises(ValueError, match="lies outside the image of 20 x 20 pixels"):
        decode_image(sink.getvalue(), 8, 1, (20, 0, 10, 10))
