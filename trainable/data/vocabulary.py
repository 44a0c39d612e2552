"""Class names, and the prompts they become: English and Korean words in several templates.

A class's canonical name is what manifests and ledgers hold ("fear", "happily_surprised", KOTE's "불평/불만"). A name
that stands in no table is said as it is written, underscores as spaces, in either language, so that any folder or
any word a user types can be a class.
"""

from collections.abc import Sequence

from trainable.config import LANGUAGES
from trainable.data.words import ALIASES, BASIC, COMPOUND, CONTEMPT, KOTE, Words
from trainable.errors import ConfigError, require_one_of

VOCABULARIES: dict[str, tuple[str, ...]] = {
    "basic7": tuple(BASIC),
    "affectnet8": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    "compound15": tuple(COMPOUND),
    "kote44": tuple(KOTE),
}
"""Named lists of classes; `basic7` is in FER-2013's order, `affectnet8` and `kote44` in that of their data sets."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "en": (
        "{adjective_en}",
        "a photo of a face that looks {adjective_en}",
        "a person who looks {adjective_en}",
        "a face showing {noun_en}",
        "a facial expression of {noun_en}",
        "a person feeling {noun_en}",
    ),
    "ko": (
        "{noun_ko}",
        "{adjective_ko} 얼굴",
        "{adjective_ko} 표정을 짓는 사람의 사진",
        "{adjective_ko} 사람",
        "얼굴에 드러난 {noun_ko}",
        "{noun_ko}의 감정을 느끼는 사람",
    ),
}

_WORDS: dict[str, Words] = BASIC | {"contempt": CONTEMPT} | COMPOUND | KOTE


def canonical_name(name: str) -> str:
    """The table's name of a class: "Happiness" -> "happy", "happily surprised" -> "happily_surprised".

    A name that no table knows comes back as it is, stripped of outer blanks.
    """
    stripped = name.strip()
    if stripped in _WORDS:
        return stripped
    key = stripped.lower().replace(" ", "_").replace("-", "_")
    key = ALIASES.get(key, key)
    return key if key in _WORDS else stripped


def label_words(class_name: str, language: str) -> str:
    """The shortest way to say a class in `language` ("en" or "ko"): "fear" -> "fearful", "공포".

    Raises `ConfigError` for another language, "both" included.
    """
    if language not in TEMPLATES:
        raise ConfigError(f"the language of a label must be en or ko, but got {language!r}.")
    return TEMPLATES[language][0].format_map(_words(class_name)._asdict())


def prompts(classes: Sequence[str], language: str) -> list[list[str]]:
    """Every template of `language` ("en", "ko" or "both") filled for every class: C lists of P prompts.

    Raises `ConfigError` for an unknown language, and where two classes would get the same prompts, since no text
    tower could tell them apart.
    """
    require_one_of("language", language, LANGUAGES)
    templates = [template for each, some in TEMPLATES.items() if language in (each, "both") for template in some]
    filled = [[template.format_map(_words(name)._asdict()) for template in templates] for name in classes]
    _require_distinct(classes, filled)
    return filled  # [C][P]


def _words(class_name: str) -> Words:
    said = class_name.strip().replace("_", " ")
    return _WORDS.get(canonical_name(class_name), Words(said, said, said, said))


def _require_distinct(classes: Sequence[str], filled: Sequence[Sequence[str]]) -> None:
    owners: dict[tuple[str, ...], str] = {}
    for name, lines in zip(classes, filled, strict=True):
        key = tuple(line.lower() for line in lines)
        if key in owners:
            raise ConfigError(
                f"each class must have prompts of its own, but {owners[key]!r} and {name!r} both read {lines[0]!r}; "
                "leave one of them out or rename it."
            )
        owners[key] = name
