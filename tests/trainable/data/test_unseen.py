from dataclasses import replace
from pathlib import Path

import pytest

from trainable.data.store import Manifest, Store
from trainable.data.unseen import NAMED_SPLITS, UnseenClasses, choose_unseen, parse_unseen, parts_of
from trainable.data.words import BASIC, COMPOUND, COMPOUND_PARTS
from trainable.errors import ConfigError


@pytest.fixture(scope="module")
def manifest(faces: Path) -> Manifest:
    return Store.open(faces).manifest


@pytest.mark.parametrize(
    ("text", "validation", "test"),
    [
        ("fear,disgust", ("fear", "disgust"), ()),
        ("fear:disgust", ("fear",), ("disgust",)),
        (" Fear , happiness : sad", ("fear", "happy"), ("sad",)),
        (":fear,disgust", (), ("fear", "disgust")),
        ("none", (), ()),
    ],
)
def test_groups_are_read_and_written_in_the_same_way(
    text: str, validation: tuple[str, ...], test: tuple[str, ...]
) -> None:
    unseen = parse_unseen(text)

    assert (unseen.validation, unseen.test) == (validation, test)
    assert parse_unseen(str(unseen)) == UnseenClasses.from_dict(unseen.to_dict()) == unseen


@pytest.mark.parametrize("text", ["", ":", " , ", "fear:sad:angry"])
def test_what_is_no_pair_of_groups_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be VALIDATION\[:TEST\].*compounds"):
        parse_unseen(text)


@pytest.mark.parametrize("text", ["fear:fear", "fear,fear", "fear:sad,fearful"])
def test_a_class_is_in_one_group_only(text: str) -> None:
    with pytest.raises(ConfigError, match="fear more than once"):
        parse_unseen(text)


def test_both_groups_of_compounds_hold_parts_of_each_basic_emotion_and_the_three_without_are_tested() -> None:
    groups = NAMED_SPLITS["compounds"]

    assert {*groups.validation, *groups.test} == set(COMPOUND)
    assert not {*groups.validation} & {*groups.test}
    for group in (groups.validation, groups.test):
        parts = {part for name in group for part in COMPOUND_PARTS.get(name, ())}
        assert parts == set(BASIC) - {"neutral"}
    assert set(COMPOUND) - set(COMPOUND_PARTS) == {"awed", "appalled", "hatred"} < {*groups.test}


def test_synthetic_has_its_compounds_unseen_unless_another_split_is_asked_for(manifest: Manifest) -> None:
    assert choose_unseen(None, manifest) == choose_unseen("compounds", manifest) == NAMED_SPLITS["compounds"]
    assert choose_unseen("none", manifest) == UnseenClasses()
    assert choose_unseen(None, replace(manifest, dataset="folder")) == UnseenClasses()
    assert choose_unseen("fear:awed", manifest).seen(manifest) == (
        *("angry", "disgust", "happy", "sad", "surprise", "neutral"),
    )


def test_a_store_without_images_of_the_compounds_has_none_of_its_own(manifest: Manifest) -> None:
    counts = {split: {**of, **dict.fromkeys(COMPOUND, 0)} for split, of in manifest.counts.items()}
    without = replace(manifest, counts=counts)

    assert choose_unseen(None, without) == UnseenClasses()
    with pytest.raises(ConfigError, match="validation has none of happily_disgusted"):
        choose_unseen("compounds", without)


def test_classes_may_be_called_otherwise_than_the_table_does(manifest: Manifest) -> None:
    classes = ("Angry", "Happiness", "불평_불만", "sad", "happily surprised")
    counts = dict.fromkeys(("train", "validation", "test"), dict.fromkeys(classes, 3))
    folder = replace(manifest, dataset="folder", classes=classes, unseen_classes=(), counts=counts)

    for text in ("happy,불평/불만:happily_surprised", "Happiness,불평_불만:happily surprised"):
        unseen = choose_unseen(text, folder)
        assert unseen == UnseenClasses(validation=("Happiness", "불평_불만"), test=("happily surprised",))
        assert unseen.seen(folder) == ("Angry", "sad")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fera", "synthetic, but it has no 'fera'.* Did you mean 'fear'"),
        ("compunds", "Did you mean 'compounds'"),
        ("angry,disgust,fear:happy,sad,surprise", "leaves neutral"),
        ("angry,disgust,fear:happy,sad,surprise,neutral", "leaves none"),
    ],
)
def test_what_the_data_cannot_give_is_refused(manifest: Manifest, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        choose_unseen(text, manifest)


def test_the_parts_of_a_name_are_positions_among_the_seen_classes() -> None:
    seen = ["surprise", "sad", "happy"]

    assert parts_of(["happily_surprised", "sadly_fearful", "awed", "sad"], seen) == [(0, 2), None, None, None]
