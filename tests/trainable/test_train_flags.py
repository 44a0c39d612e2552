import pytest

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.train import main
from trainable.train_flags import parse_setting


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("learning_rate=1e-3", ("learning_rate", 1e-3)),
        ("learning_rate=1", ("learning_rate", 1.0)),
        (" embedding_dim = 64 ", ("embedding_dim", 64)),
        ("learn_logit_scale=False", ("learn_logit_scale", False)),
        ("learn_logit_scale=true", ("learn_logit_scale", True)),
        ("text_tower=skt/kobert-base-v1", ("text_tower", "skt/kobert-base-v1")),
        ("image_tower=a=b", ("image_tower", "a=b")),
    ],
)
def test_a_setting_is_read_by_the_type_of_its_field(text, setting):
    name, value = parse_setting(text)
    assert (name, value) == setting
    assert type(value) is type(getattr(TrialConfig(), name))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate", "--set must have the form name=value"),
        ("learning_rate=", "--set must have the form name=value"),
        ("=1", "--set must have the form name=value"),
        ("learning_rat=1", "Did you mean 'learning_rate'?"),
        ("embedding_dim=64.5", "--set embedding_dim must be a whole number, but got '64.5'"),
        ("learn_logit_scale=yes", "must be true or false"),
        ("learning_rate=loguniform(1e-5,1e-2)", "ranges are for search/run.py"),
    ],
)
def test_a_setting_that_cannot_be_read_says_what_it_must_be(text, words):
    with pytest.raises(ConfigError) as raised:
        parse_setting(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--resume", "x", "--seed", "0"], "--resume must stand alone"),
        (["--resume", "x", "--set", "seed=0"], "but got --set with it"),
        (["--overfit", "--out", "x"], "--overfit must have no --out"),
        (["--workers", "0"], "--workers must be 1 or more, but got 0"),
        (["--workers", "2", "--overfit"], "--overfit must have no --workers"),
        (["--max-lost-minutes", "0"], "--max-lost-minutes > 0 must hold, but got 0"),
        (["--max-lost-minutes", "5", "--overfit"], "--overfit must have no --max-lost-minutes"),
        (["--resume", "no-such-run"], "--resume must name the folder of a run"),
        (["--config", "no-such-file.json"], "the config file must be readable"),
        (["--out", "s3://bucket/run"], "must be a file or folder of this machine, but got the address s3://bucket/run"),
        (["--set", "loss=clop"], "loss must be one of"),
        (["--max-epochs", "0"], "max_epochs >= 1 must hold"),
        (["--dataset", "fer2013"], "must be given a path"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_status_2(flags, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert words in printed
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []
