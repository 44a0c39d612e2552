import pytest

from trainable.errors import ConfigError, DivergedError, GlanceError, close_match, nearest, run_command


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
