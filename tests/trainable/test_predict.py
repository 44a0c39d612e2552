import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.data import contact_sheet, face_crop
from trainable.data.decoding import decode_image
from trainable.data.vocabulary import VOCABULARIES
from trainable.errors import ConfigError, DataError
from trainable.predict import find_pictures, main, parse_labels
from trainable.storage.storage import open_storage
from trainable.training.predictor import ZeroShotPredictor


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of other shapes and kinds than the store's, one of them in a folder of its own."""
    rng = np.random.default_rng(0)
    (tmp_path / "more").mkdir()
    for name, shape in (("b.png", (60, 50)), ("a.jpg", (48, 48, 3)), ("more/c.webp", (30, 90, 3))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def answers(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_folders_are_searched_and_files_are_taken_as_they_are(pictures):
    found = find_pictures([pictures, pictures / "notes.txt"])
    assert [path.relative_to(pictures).as_posix() for path in found] == ["a.jpg", "b.png", "more/c.webp", "notes.txt"]


def test_no_picture_is_an_error(tmp_path):
    with pytest.raises(DataError, match="pictures must be given"):
        find_pictures([])
    with pytest.raises(DataError, match=f"folders of them, but got {tmp_path}"):
        find_pictures([tmp_path])


def test_labels_are_a_vocabulary_or_words():
    assert parse_labels("kote44") == VOCABULARIES["kote44"]
    assert parse_labels("happy, so so ,기쁨,") == ("happy", "so so", "기쁨")


@pytest.mark.parametrize(
    ("text", "hint"), [("basic8", "Did you mean 'basic7'?"), ("", "Known:"), ("happy,", "at least")]
)
def test_one_label_is_no_choice(text, hint):
    with pytest.raises(ConfigError) as raised:
        parse_labels(text)
    assert hint in str(raised.value)


def test_json_holds_what_the_model_says_of_the_decoded_picture(model, pictures, capsys):
    from trainable.training.predictor import ZeroShotPredictor

    assert main(["--model", str(model), "--json", "--top", "7", str(pictures)]) == 0
    lines = answers(capsys)
    predictor = ZeroShotPredictor.load(model)
    names = ["a.jpg", "b.png", "more/c.webp"]
    images = np.stack([decode_image(pictures / name, 48, 1) for name in names])
    expected = predictor.predict(images, predictor.classes)
    assert [line["picture"] for line in lines] == [str(pictures / name) for name in names]
    for line, row in zip(lines, expected, strict=True):
        said = {guess["label"]: guess["probability"] for guess in line["predictions"]}
        assert [said[name] for name in predictor.classes] == pytest.approx(row.tolist(), rel=1e-4)
        assert list(said.values()) == sorted(said.values(), reverse=True)
        assert math.isclose(sum(said.values()), 1, rel_tol=1e-5)
    happy = next(guess for guess in lines[0]["predictions"] if guess["label"] == "happy")
    assert (happy["english"], happy["korean"]) == ("happy", "행복")


def test_labels_language_and_top_are_obeyed(model, pictures, capsys):
    command = ["--model", str(model), "--json", str(pictures / "b.png"), "--labels", "happy,화남,quite tired"]
    assert main([*command, "--top", "2"]) == 0
    english = answers(capsys)[0]["predictions"]
    assert main([*command, "--top", "9", "--language", "ko"]) == 0
    korean = answers(capsys)[0]["predictions"]
    assert (len(english), len(korean)) == (2, 3)
    assert {guess["label"] for guess in korean} == {"happy", "화남", "quite tired"}
    said = {guess["label"]: guess["probability"] for guess in korean}
    assert any(said[guess["label"]] != guess["probability"] for guess in english)


def test_the_table_shows_each_picture_once_in_both_languages(model, pictures, capsys):
    assert main(["--model", str(model), "--labels", "happy,sad", str(pictures / "b.png")]) == 0
    table = capsys.readouterr().out
    assert "".join(line.split("│")[1].strip() for line in table.splitlines() if "│" in line) == str(pictures / "b.png")
    for words in ("English", "Korean", "happy", "행복", "sad", "슬픔", "probability"):
        assert words in table


def test_what_cannot_be_read_is_named_and_the_rest_predicted(model, pictures, capsys):
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n")
    missing = pictures / "missing.png"
    assert main(["--model", str(model), "--json", str(missing), str(pictures)]) == 1
    printed = capsys.readouterr()
    named = [line["picture"] for line in map(json.loads, printed.out.splitlines())]
    assert named == [str(pictures / name) for name in ("a.jpg", "b.png", "more/c.webp")]
    assert printed.err.splitlines() == [
        f"skipped {missing}: there is no such file",
        f"skipped {pictures / 'broken.png'}: not an image that Pillow can read",
    ]


@pytest.fixture
def photo(tmp_path):
    """A picture that shows more than a face, and the face as the model is to see it."""
    pixels = np.random.default_rng(1).integers(0, 256, (120, 160), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", decode_image(pixels[30:78, 20:68], 48, 1)


def test_a_photo_is_cropped_to_its_face_unless_that_is_refused(model, photo, capsys, monkeypatch):
    monkeypatch.setattr(face_crop, "largest_face", lambda gray: (20, 30, 48, 48))
    path, face = photo
    predictor = ZeroShotPredictor.load(model)
    command = ["--model", str(model), "--json", "--top", "1", str(path)]
    for flags, image, box in (([], face, [20, 30, 48, 48]), (["--no-crop"], decode_image(path, 48, 1), None)):
        assert main([*command, *flags]) == 0
        (line,) = answers(capsys)
        assert line["face"] == box
        expected = predictor.predict(image[None], predictor.classes).max()
        assert line["predictions"][0]["probability"] == pytest.approx(float(expected), rel=1e-4)


def test_where_no_face_is_found_the_picture_is_taken_whole_and_that_is_said(model, photo, capsys, monkeypatch):
    monkeypatch.setattr(face_crop, "largest_face", lambda gray: None)
    assert main(["--model", str(model), "--json", str(photo[0])]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["face"] is None
    assert printed.err == f"no face was found in {photo[0]}: it was taken whole\n"


def test_a_picture_is_read_from_standard_input(model, pictures, capsys, monkeypatch):
    assert main(["--model", str(model), "--json", str(pictures / "a.jpg")]) == 0
    (from_file,) = answers(capsys)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((pictures / "a.jpg").read_bytes())))
    assert main(["--model", str(model), "--json", "-"]) == 0
    (line,) = answers(capsys)
    assert (line["picture"], line["predictions"]) == ("standard input", from_file["predictions"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no picture")))
    assert main(["--model", str(model), "-"]) == 1
    assert capsys.readouterr().err == "skipped standard input: not an image that Pillow can read\n"


def test_a_sheet_shows_what_was_predicted(model, pictures, capsys, monkeypatch):
    sheets = []
    monkeypatch.setattr(contact_sheet, "write_sheet", lambda path, cells, font: sheets.append((path, cells)))
    monkeypatch.setattr(contact_sheet, "hangul_font", lambda: None)
    out = pictures.parent / "sheet.png"
    assert main(["--model", str(model), "--json", "--top", "2", "--out", str(out), str(pictures)]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    ((path, cells),) = sheets
    assert path == out
    assert [cell.title for cell in cells] == [line["picture"] for line in lines]
    for cell, line in zip(cells, lines, strict=True):
        said = [{name: guess[name] for name in ("english", "korean", "probability")} for guess in line["predictions"]]
        assert [vars(row) for row in cell.rows] == said
        assert np.array_equal(cell.image, decode_image(Path(line["picture"]), 48, 1))
    assert "the sheet is in English alone" in printed.err


def test_a_sheet_that_nothing_could_open_is_refused(model, pictures, capsys, monkeypatch):
    monkeypatch.setattr(contact_sheet, "MOST_PIXELS", 440 * 147)
    assert main(["--model", str(model), "--out", "sheet.png", str(pictures / "a.jpg")]) == 2
    printed = capsys.readouterr()
    assert "1 pictures with 3 labels each make 440 x 148; name fewer" in printed.err
    assert printed.out == ""


def test_where_nothing_can_be_read_there_is_no_table(model, tmp_path, capsys):
    assert main(["--model", str(model), str(tmp_path / "missing.png")]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "pictures must be given"),
        (["b.png", "--out", "sheet.jpg"], "--out must name a PNG file"),
        (["b.png", "--top", "0"], "--top >= 1 must hold"),
        (["b.png", "--model", "nowhere"], "a model folder must hold"),
        (["b.png", "--model", "~nobody-of-that-name/best"], "~ only before a user's name"),
        (["~nobody-of-that-name/b.png"], "~ only before a user's name"),
        (["b.png", "--labels", "basic8"], "Did you mean 'basic7'?"),
        (["b.png", "--labels", "happy,Happy"], "prompts of its own"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_status_2(flags, words, model, pictures, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    assert main(["--model", str(model), *flags]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_a_model_in_a_bucket_says_the_same(model, pictures, s3, capsys):
    storage = open_storage("s3://glance/results")
    for path in model.iterdir():
        storage.put_file(f"demo/best/{path.name}", path)
    assert main(["--model", str(model), "--json", str(pictures / "a.jpg")]) == 0
    here = answers(capsys)
    assert main(["--model", "s3://glance/results/demo/best/", "--json", str(pictures / "a.jpg")]) == 0
    assert answers(capsys) == here
    assert main(["--model", "s3://glance/results/demo", str(pictures / "a.jpg")]) == 2
    assert "s3://glance/results/demo has no model.safetensors" in capsys.readouterr().err
