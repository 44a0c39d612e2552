"""The grammar of `--set`: one dimension of a search space as text. Nothing is ever evaluated.

    dimension := function "(" atom { "," atom } ")" | atom
    function  := "uniform" | "loguniform" | "randint" | "choice"
    atom      := number | "true" | "false" | bare word | 'quoted' | "quoted"

In quotes a backslash takes the next character as it is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from search.dimensions import BARE_WORD, NUMBER, Choice, Dimension, Fixed, LogUniform, RandInt, Uniform, Value
from trainable.errors import ConfigError, nearest

EXAMPLES = "Examples: 1e-3, kaiming, choice(64,128), uniform(1,4), loguniform(1e-5,1e-2), randint(1,3)."

_TOKEN = re.compile(
    rf"""(?P<blank>\s+) | (?P<mark>[(),]) | (?P<word>{BARE_WORD.pattern})
       | "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)'""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str
    position: int


def parse_dimension(text: str) -> Dimension:
    """Read one dimension, such as ``loguniform(1e-5,1e-2)``, ``choice(64,128)`` or ``kaiming``.

    Raises `ConfigError` that shows where in `text` the trouble is.
    """
    tokens = _tokenise(text)
    if not tokens:
        raise ConfigError(f"a hyperparameter must get a value, but got none. {EXAMPLES}")
    if len(tokens) == 1:
        return Fixed(_value(text, tokens[0]))
    name = tokens[0]
    if tokens[1].text != "(" or tokens[1].kind != "mark" or name.kind != "word":
        raise _error(text, tokens[1].position, "one value or function(...) must stand here; quote a value with blanks")
    if name.text not in _FUNCTIONS:
        raise _error(text, name.position, f"no function is called {name.text!r}.{nearest(name.text, _FUNCTIONS)}")
    arguments = _arguments(text, tokens[2:])
    return _FUNCTIONS[name.text](text, arguments)


def split_assignment(text: str) -> tuple[str, Dimension]:
    """Read ``name=dimension``; raises `ConfigError`."""
    name, separator, expression = text.partition("=")
    if not separator or not name.strip():
        raise ConfigError(f"--set must have the form name=value, but got {text!r}. Example: --set learning_rate=1e-3.")
    try:
        return name.strip(), parse_dimension(expression)
    except ConfigError as error:
        raise ConfigError(f"--set {name.strip()}: {error}") from error


def _tokenise(text: str) -> list[_Token]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _error(text, position, "this cannot be read (a quote must be closed; '=' must be quoted)")
        kind = match.lastgroup or ""
        if kind in ("double", "single"):
            tokens.append(_Token(re.sub(r"\\(.)", r"\1", match[kind], flags=re.DOTALL), "quoted", position))
        elif kind != "blank":
            tokens.append(_Token(match[kind], kind, position))
        position = match.end()
    return tokens


def _arguments(text: str, tokens: list[_Token]) -> list[Value]:
    """The values between "(" and ")", where `tokens` begin after the "("."""
    values: list[Value] = []
    for index in range(0, len(tokens), 2):
        values.append(_value(text, tokens[index]))
        after = tokens[index + 1] if index + 1 < len(tokens) else None
        if after is None or after.kind != "mark" or after.text == "(":
            raise _error(text, after.position if after else len(text), "',' or ')' must stand here")
        if after.text == ")":
            if index + 2 < len(tokens):
                raise _error(text, tokens[index + 2].position, "nothing may follow the ')'")
            return values
    raise _error(text, len(text), "a value must stand here")


def _value(text: str, token: _Token) -> Value:
    if token.kind == "quoted":
        return token.text
    if token.kind == "mark":
        raise _error(text, token.position, "a value must stand here")
    if NUMBER.fullmatch(token.text):
        return int(token.text) if re.fullmatch(r"[+-]?[0-9]+", token.text) else float(token.text)
    return {"true": True, "false": False}.get(token.text.lower(), token.text)


def _interval(kind: type[Uniform] | type[LogUniform]) -> Callable[[str, list[Value]], Dimension]:
    def build(text: str, arguments: list[Value]) -> Dimension:
        low, high = _two_numbers(text, arguments)
        return kind(float(low), float(high))

    return build


def _randint(text: str, arguments: list[Value]) -> Dimension:
    low, high = _two_numbers(text, arguments)
    return RandInt(low, high)  # type: ignore[arg-type]  # RandInt refuses floats with a sentence of its own


def _choice(text: str, arguments: list[Value]) -> Dimension:
    return Choice(tuple(arguments))


def _two_numbers(text: str, arguments: list[Value]) -> tuple[float, float]:
    numbers = [value for value in arguments if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(arguments) != 2 or len(numbers) != 2:
        raise ConfigError(f"two numbers (low,high) must stand in the brackets, but got {text.strip()!r}. {EXAMPLES}")
    return numbers[0], numbers[1]


_FUNCTIONS: dict[str, Callable[[str, list[Value]], Dimension]] = {
    "uniform": _interval(Uniform),
    "loguniform": _interval(LogUniform),
    "randint": _randint,
    "choice": _choice,
}


def _error(text: str, position: int, sentence: str) -> ConfigError:
    return ConfigError(f"{sentence}:\n    {text}\n    {' ' * position}^\n{EXAMPLES}")
