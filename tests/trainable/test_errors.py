import pytest

from trainable.errors import (
    CommandParser,
    ConfigError,
    DivergedError,
    GlanceError,
    close_match,
    nearest,
    run_command,
)


def test_the_nearest_name_is_offered_and_all_where_none_is_near() -> None:
    assert nearest("learning_rat", ["learning_rate", "loss"]) == " Did you mean 'learning_rate'?"
    assert nearest("zzz", ["b", "a"]) == " Known: a, b."


def test_a_user_error_becomes_its_sentence_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ConfigError("a < b must hold, but got a=2.")

    assert run_command(command) == 2
    assert capsys.readouterr().err == "error: a < b must hold, but got a=2.\n"


def test_an_interrupt_becomes_status_130() -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run_command(command) == 130


def test_a_bug_keeps_its_traceback() -> None:
    def command() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(command)


def test_divergence_is_an_error_for_the_user() -> None:
    assert issubclass(DivergedError, GlanceError)


def test_a_close_name_is_offered_whatever_its_case_and_nothing_where_none_is_close() -> None:
    assert close_match("ASHA", ["asha", "random"]) == " Did you mean 'asha'?"
    assert close_match("Val_Acc", ["val_accuracy", "loss"]) == " Did you mean 'val_accuracy'?"
    assert close_match("zzz", ["b", "a"]) == ""


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["a", "--lables", "x"], r"^no flag is called '--lables'\. Did you mean '--labels'\?$"),
        (["a", "--labels"], r"^argument --labels: expected one argument\. See --help\.$"),
        ([], r"^the following arguments are required: picture\. See --help\.$"),
        (["a", "b"], r"^nothing more must follow, but got 'b'\. See --help\.$"),
    ],
)
def test_what_a_command_cannot_read_is_one_sentence(argv: list[str], sentence: str) -> None:
    parser = CommandParser(prog="x")
    parser.add_argument("picture")
    parser.add_argument("--labels")
    assert vars(parser.read(["a", "--labels", "b"])) == {"picture": "a", "labels": "b"}
    with pytest.raises(ConfigError, match=sentence):
        parser.read(argv)
