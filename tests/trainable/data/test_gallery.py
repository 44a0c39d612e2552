from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.data.action_units import PROTOTYPES
from trainable.data.gallery import main, model_face, sample_faces
from trainable.data.synthetic import CLASSES, draw_faces, roll_faces


@pytest.mark.parametrize("flags", [pytest.param([], marks=pytest.mark.e2e), ["--action-units"]])
def test_picture_is_written(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "images" / "grid.png"
    assert main(["--out", str(out), *flags]) == 0
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.width > 1000
        assert np.asarray(picture).std() > 10


def test_samples_are_faces_of_the_class_as_the_data_set_draws_them() -> None:
    happy = CLASSES.index("happy")
    expected = draw_faces(np.full(2, happy), roll_faces(5, "validation", 2 * happy, 2))
    assert np.array_equal(np.stack(sample_faces("happy", 2, 5)), expected / 255)


def test_model_shows_each_prototype_differently() -> None:
    faces = [model_face(prototype).tobytes() for prototype in PROTOTYPES.values()]
    assert len(set(faces)) == len(faces)
