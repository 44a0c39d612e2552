"""Which part of a picture is the face: all of it where it is a crop already, else where OpenCV's detector says.

The detector is the cascade of Haar features that comes with OpenCV (Viola and Jones 2001; Lienhart and Maydt 2002). Its
box, brows to chin, is taken as it is: FER-2013 was cropped by OpenCV, too (arXiv 1307.0414, section 2).
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps

CROP_SIZE = 1.5
"""A picture whose shorter side is at most so many times what the model takes is a crop: nothing could be gained."""
CROP_SHARE = 0.6
"""A face that fills so much of the shorter side makes the picture a crop of it."""
SEARCHED_SIZE = 640
"""Longest side at which a face is looked for, in pixels; below a twentieth of it nothing is."""
KEPT = 2
"""A face is kept at so many times the side that the model takes: a whole chunk of them must fit into memory."""

Box = tuple[int, int, int, int]
"""Left, top, width and height, in pixels of the upright picture."""


@dataclass(frozen=True)
class Face:
    """What of a picture the model is to see."""

    pixels: np.ndarray | None
    """The face, uint8 (H, W, 3); None is the whole picture."""
    box: Box | None
    """Where it lies; None is the whole picture."""
    is_missing: bool = False
    """Whether a face was looked for and not found."""


def crop_face(picture: Path | BinaryIO, image_size: int) -> Face:
    """The largest face of a picture that shows more than a face; raises what Pillow raises.

    `image_size` is the side that the model takes.
    """
    with Image.open(picture) as opened:
        if min(opened.size) <= CROP_SIZE * image_size:
            return Face(None, None)
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    small = upright.copy()
    small.thumbnail((SEARCHED_SIZE, SEARCHED_SIZE))
    box = largest_face(np.asarray(small.convert("L")))
    if box is None:
        return Face(None, None, is_missing=True)
    enlarged = upright.width / small.width
    left, top, width, height = (round(value * enlarged) for value in box)
    if min(width, height) >= CROP_SHARE * min(upright.size):
        return Face(None, None)
    face = upright.crop((left, top, left + width, top + height))
    face.thumbnail((KEPT * image_size,) * 2, Image.Resampling.LANCZOS)
    return Face(np.asarray(face), (left, top, width, height))


def largest_face(gray: np.ndarray) -> Box | None:
    """The largest face that OpenCV finds in gray levels (H, W) uint8."""
    smallest = SEARCHED_SIZE // 20
    found = _detector().detectMultiScale(
        cv2.equalizeHist(gray), scaleFactor=1.1, minNeighbors=5, minSize=(smallest, smallest)
    )
    boxes = [tuple(map(int, box)) for box in found]
    return max(boxes, key=lambda box: box[2] * box[3], default=None)  # type: ignore[return-value]


@functools.cache
def _detector() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))
