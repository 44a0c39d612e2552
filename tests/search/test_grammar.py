import math
import random

import numpy as np
import pytest

from search.dimensions import Choice, Dimension, Fixed, LogUniform, RandInt, Uniform, Value
from search.grammar import parse_dimension, split_assignment
from trainable.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("loguniform(1e-5,1e-2)", LogUniform(1e-5, 1e-2)),
        (" uniform( 1 , 4 ) ", Uniform(1.0, 4.0)),
        ("randint(-1,3)", RandInt(-1, 3)),
        ("choice(64,128)", Choice((64, 128))),
        ("choice(kaiming, xavier)", Choice(("kaiming", "xavier"))),
        ("choice(true,false)", Choice((True, False))),
        ("1e-3", Fixed(1e-3)),
        ("64", Fixed(64)),
        ("64.0", Fixed(64.0)),
        (".5", Fixed(0.5)),
        ("True", Fixed(True)),
        ("kaiming", Fixed("kaiming")),
        ("skt/kobert-base-v1", Fixed("skt/kobert-base-v1")),
        ("./내/모델", Fixed("./내/모델")),
        ("7b-model", Fixed("7b-model")),
        ("nan", Fixed("nan")),
        ("1_000", Fixed("1_000")),
        ("'two words'", Fixed("two words")),
        (r'"a \"b\" \\ c"', Fixed(r'a "b" \ c')),
        ("'1e-3'", Fixed("1e-3")),
        ("choice(',', ')')", Choice((",", ")"))),
    ],
)
def test_expressions_are_read(text: str, dimension: Dimension) -> None:
    parsed = parse_dimension(text)
    assert parsed == dimension
    assert [type(value) for value in parsed.edges()] == [type(value) for value in dimension.edges()]


@pytest.mark.parametrize(
    ("text", "sentence", "position"),
    [
        ("choise(1,2)", "Did you mean 'choice'", 0),
        ("eval(1)", "no function is called 'eval'", 0),
        ("1 2", "one value or function", 2),
        ("choice(1,", "a value must stand here", 9),
        ("choice(", "a value must stand here", 7),
        ("choice()", "a value must stand here", 7),
        ("choice(1 2)", "',' or '\\)' must stand here", 9),
        ("choice(1,2", "',' or '\\)' must stand here", 10),
        ("choice(1,2))", "nothing may follow", 11),
        ("choice(1,(2))", "a value must stand here", 9),
        ("'open", "a quote must be closed", 0),
        ("a=b", "'=' must be quoted", 1),
        ("(1)", "must stand here", 1),
    ],
)
def test_an_error_shows_the_place_and_an_example(text: str, sentence: str, position: int) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        parse_dimension(text)
    lines = str(error.value).splitlines()
    assert lines[1] == f"    {text}"
    assert lines[2] == " " * (4 + position) + "^"
    assert "loguniform(1e-5,1e-2)" in lines[3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "but got none"),
        ("uniform(4,1)", "low < high"),
        ("uniform(1,1)", "low < high"),
        ("uniform(0,1e999)", "finite"),
        ("loguniform(0,1)", "0 < low"),
        ("randint(1,2.5)", "integers"),
        ("uniform(1)", "two numbers"),
        ("uniform(1,2,3)", "two numbers"),
        ("uniform(a,b)", "two numbers"),
        ("uniform(true,2)", "two numbers"),
        ("choice(64)", "two values or more"),
        ("choice(1,1)", "different values"),
        ("choice(1,1.0)", "different values"),
    ],
)
def test_impossible_dimensions_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_dimension(text)


def test_true_and_one_are_different_choices() -> None:
    assert parse_dimension("choice(true,1)") == Choice((True, 1))


def _random_value(rng: random.Random) -> Value:
    characters = "ab1-_./ \"'\\(),=\n\t감true"
    return rng.choice(
        [
            rng.random() * 10 ** rng.randint(-300, 300) * rng.choice([1, -1]),
            float(rng.randint(-3, 3)),
            rng.randint(-(10**18), 10**18),
            rng.random() < 0.5,
            "".join(rng.choice(characters) for _ in range(rng.randint(0, 8))),
            rng.choice(["true", "False", "1e-3", "-7", "nan", "choice", "uniform(1,2)", ""]),
        ]
    )


def _random_dimension(rng: random.Random) -> Dimension:
    low, high = sorted(rng.random() * 10 ** rng.randint(-12, 12) for _ in range(2))
    integer = rng.randint(-1000, 1000)
    values = {(type(value), value): value for value in (_random_value(rng) for _ in range(5))}
    distinct = tuple(value for value in values.values() if not isinstance(value, int))
    return rng.choice(
        [
            Uniform(-high, low),
            LogUniform(low, high),
            RandInt(integer, integer + rng.randint(1, 9)),
            Fixed(_random_value(rng)),
            Choice(distinct) if len(distinct) > 1 else Choice((True, False)),
        ]
    )


def test_every_dimension_is_read_back_from_its_text() -> None:
    rng = random.Random(0)
    for _ in range(5000):
        dimension = _random_dimension(rng)
        parsed = parse_dimension(str(dimension))
        assert parsed == dimension, str(dimension)
        assert str(parsed) == str(dimension)
        assert [type(value) for value in parsed.edges()] == [type(value) for value in dimension.edges()]


def test_assignments_are_split_at_the_first_equals_sign() -> None:
    assert split_assignment(" learning_rate = 1e-3") == ("learning_rate", Fixed(1e-3))
    assert split_assignment("image_tower='a=b'") == ("image_tower", Fixed("a=b"))
    for text in ("learning_rate", "=3", ""):
        with pytest.raises(ConfigError, match="--set learning_rate=1e-3"):
            split_assignment(text)


@pytest.mark.parametrize("dimension", [Uniform(-1.0, 3.0), LogUniform(1e-5, 1e-2), RandInt(2, 5)])
def test_draws_fill_the_range_and_keep_to_it(dimension: Uniform | LogUniform | RandInt) -> None:
    rng = np.random.default_rng(0)
    draws = [dimension.sample(rng) for _ in range(4000)]
    low, high = dimension.edges()
    assert low <= min(draws)
    assert max(draws) <= high
    scale = math.log if isinstance(dimension, LogUniform) else float
    middle = (scale(low) + scale(high)) / 2
    assert abs(np.mean([scale(draw) for draw in draws]) - middle) < 0.05 * (scale(high) - scale(low))
    assert {type(draw) for draw in draws} == {type(low)}
    if isinstance(dimension, RandInt):
        assert set(draws) == {2, 3, 4, 5}


def test_a_log_uniform_draw_is_the_exponential_of_a_uniform_one_and_never_out_of_range() -> None:
    rng, reference = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(1000):
        low, high = sorted(10.0 ** reference.uniform(-9, 9, size=2))
        rng.uniform(-9, 9, size=2)
        draw = LogUniform(low, high).sample(rng)
        assert draw == pytest.approx(math.exp(reference.uniform(math.log(low), math.log(high))))
        assert low <= draw <= high
        for edge in (low, high):  # the logarithm of an edge, back through exp, may lie outside
            assert low <= LogUniform(low, high).sample(_Always(math.log(edge))) <= high  # type: ignore[arg-type]


class _Always:
    """A generator whose every draw is one value."""

    def __init__(self, value: float) -> None:
        self._value = value

    def uniform(self, low: float, high: float) -> float:
        return self._value


def test_choices_are_drawn_alike_with_their_own_types() -> None:
    rng = np.random.default_rng(0)
    draws = [Choice((8, "a", True)).sample(rng) for _ in range(3000)]
    assert all(abs(draws.count(value) - 1000) < 100 for value in (8, "a", True))
    assert {type(draw) for draw in draws} == {int, str, bool}
