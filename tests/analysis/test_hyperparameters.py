import math

import pytest

from analysis.hyperparameters import hyperparameters_of, infer, parse_expression
from search.dimensions import Choice, LogUniform, RandInt, Uniform


@pytest.mark.parametrize(
    ("dimension", "low", "high", "log"), [(LogUniform(1e-5, 1e-2), 1e-5, 1e-2, True), (Uniform(1, 4), 1, 4, False)]
)
def test_reads_back_the_intervals_that_a_search_writes(dimension, low, high, log):
    parsed = parse_expression("x", str(dimension))
    assert (parsed.low, parsed.high, parsed.log, parsed.values) == (low, high, log, ())


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        (Choice((64, 2, 8)), (2, 8, 64)),
        (Choice(("kaiming", "a, b", 'say "x"')), ("kaiming", "a, b", 'say "x"')),
        (Choice((True, False)), (True, False)),
        (RandInt(1, 3), (1, 2, 3)),
    ],
)
def test_reads_back_the_choices_that_a_search_writes(dimension, values):
    assert parse_expression("x", str(dimension)).values == values


def test_a_wide_integer_range_is_an_interval():
    parsed = parse_expression("x", str(RandInt(1, 500)))
    assert (parsed.low, parsed.high, parsed.values) == (1, 500, ())


def test_a_bare_value_is_fixed():
    assert parse_expression("x", "0.5").values == (0.5,)
    assert not parse_expression("x", "0.5").varied


@pytest.mark.parametrize("expression", ["normal(0,1)", "uniform(1)", "uniform(a,b)"])
def test_an_unknown_expression_is_left_to_the_data(expression):
    assert parse_expression("x", expression) is None


def test_infers_a_log_scale_only_for_wide_positive_values():
    assert infer("x", [10.0**-n for n in range(10)]).log
    assert not infer("x", [1 + n / 10 for n in range(10)]).log
    assert not infer("x", [-1.0, *(10.0**n for n in range(10))]).log


def test_infers_a_choice_from_few_values_or_words():
    assert infer("x", [64, 2, 64, math.nan, None]).values == (2, 64)
    assert infer("x", [f"name {n}" for n in range(20)]).values[:2] == ("name 0", "name 1")


def test_position_follows_the_scale():
    assert parse_expression("x", "loguniform(1e-4,1e-2)").position(1e-3) == pytest.approx(0.5)
    assert parse_expression("x", "uniform(1,4)").position(2.5) == pytest.approx(0.5)
    assert parse_expression("x", "choice(2,4,8,16,32)").position(8) == pytest.approx(0.5)
    assert math.isnan(parse_expression("x", "loguniform(1e-4,1e-2)").position(-1.0))


@pytest.mark.parametrize("expression", ["loguniform(1e-4,1e-2)", "uniform(-1,4)", "randint(1,500)"])
@pytest.mark.parametrize("position", [0.0, 0.3, 1.0])
def test_value_at_is_the_inverse_of_position(expression, position):
    domain = parse_expression("x", expression)
    assert domain.position(domain.value_at(position)) == pytest.approx(position)
    assert (domain.value_at(0), domain.value_at(1)) == pytest.approx((domain.low, domain.high))


def test_plots_the_usual_four_and_whatever_else_varied():
    drawn = {
        "weight_init": ["a", "a"],
        "batch_size": [64, 64],
        "seed": [0, 1],
        "head_depth": [1, 2],
        "loss": ["x", "x"],
    }
    found = hyperparameters_of({"loss": "choice(x,y)"}, drawn)
    assert list(found) == ["weight_init", "loss", "head_depth"]


def test_a_choice_covers_values_that_the_space_does_not_list():
    found = hyperparameters_of({"embedding_dim": "choice(2,4)"}, {"embedding_dim": [4, 128]})
    assert found["embedding_dim"].values == (2, 4, 128)
