from pathlib import Path

import pytest

from trainable.data.vocabulary import TEMPLATES, VOCABULARIES, canonical_name, label_words, prompts
from trainable.data.words import ALIASES, BASIC, COMPOUND, KOTE
from trainable.errors import ConfigError

KOTE_LABELS = Path(__file__).parents[3].parent / "shared" / "data" / "kote" / "labels.txt"


@pytest.mark.parametrize("language", ["en", "ko", "both"])
@pytest.mark.parametrize("vocabulary", sorted(VOCABULARIES))
def test_every_vocabulary_fills_every_template_with_words_of_its_own(vocabulary: str, language: str) -> None:
    classes = VOCABULARIES[vocabulary]
    filled = prompts(classes, language)
    expected = len(TEMPLATES["en"]) + len(TEMPLATES["ko"]) if language == "both" else len(TEMPLATES[language])
    assert [len(lines) for lines in filled] == [expected] * len(classes)
    for lines in filled:
        assert len(set(lines)) == expected
        assert not any("{" in line or "_" in line or "/" in line for line in lines)


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("vocabulary", sorted(VOCABULARIES))
def test_no_two_classes_of_a_vocabulary_share_any_prompt(vocabulary: str, language: str) -> None:
    lines = [line for some in prompts(VOCABULARIES[vocabulary], language) for line in some]
    assert len(set(lines)) == len(lines)


def test_basic_and_compound_emotions_go_together() -> None:
    filled = prompts([*VOCABULARIES["basic7"], *VOCABULARIES["compound15"]], "both")
    assert len({line for lines in filled for line in lines}) == 22 * len(filled[0])


def test_words_of_a_compound_are_made_of_the_basic_ones() -> None:
    assert COMPOUND["sadly_fearful"] == ("sadly fearful", "sadness and fear", "슬픔과 공포", "슬프고 두려워하는")
    assert label_words("happily_surprised", "en") == "happily surprised"
    assert label_words("angry", "ko") == "분노"


@pytest.mark.skipif(not KOTE_LABELS.exists(), reason="KOTE's label file is not beside the repository")
def test_kote_labels_are_those_of_the_data_set_in_order() -> None:
    assert list(VOCABULARIES["kote44"]) == KOTE_LABELS.read_text(encoding="utf-8").split("\n")[:44]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_unknown_class_is_said_as_written(language: str) -> None:
    assert label_words("mild_annoyance", language) == "mild annoyance"
    assert all("mild annoyance" in line for line in prompts(["mild_annoyance", "sad"], language)[0])


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Happiness", "happy"),
        (" anger ", "angry"),
        ("Happily surprised", "happily_surprised"),
        ("SURPRISE", "surprise"),
        ("불평/불만", "불평/불만"),
        ("Mild_Annoyance", "Mild_Annoyance"),
    ],
)
def test_canonical_name(written: str, name: str) -> None:
    assert canonical_name(written) == name


def test_aliases_lead_to_known_classes_and_hide_none() -> None:
    known = {*BASIC, *COMPOUND, *KOTE, "contempt"}
    assert set(ALIASES.values()) <= known
    assert not set(ALIASES) & known


def test_classes_that_read_alike_are_refused() -> None:
    with pytest.raises(ConfigError, match="'happy' and 'happiness' both read 'happy'"):
        prompts(["happy", "sad", "happiness"], "en")
    with pytest.raises(ConfigError, match="'my_class' and 'My class'"):
        prompts(["my_class", "My class"], "ko")
    with pytest.raises(ConfigError, match="'sad' and 'sad'"):
        prompts(["sad", "sad"], "en")


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of en, ko, both, but got 'english'"):
        prompts(["happy"], "english")
    with pytest.raises(ConfigError, match="en or ko"):
        label_words("happy", "both")
