import json

import pytest

from analysis.frames import load_experiment
from analysis.verdict import details, verdict


def test_golden_verdict(demo):
    experiment = load_experiment(demo)
    assert verdict(experiment) == [
        "The best is trial 7 (learning rate 0.001719, initial logit scale (log space) 1.476, embedding dim "
        "128, weight initialisation xavier): validation accuracy 0.811 after 8 of 8 epochs, where guessing "
        "gives 0.143.",
        "Its lead over the next, trial 9, is 0.108, and 95 % of resamples of 420 validation images give 0.050"
        " to 0.167: more than chance in the images makes, though one seed each was trained.",
        "What mattered most, over 13 trials at epoch 1, was the learning rate (alone it explains 71% of the "
        "ranks); next, widen the range of the embedding dim (the best, 128, lies at its upper edge, 128) and "
        "train longer than 8 epochs (it still gained 0.037 in the last quarter).",
    ]
    assert details(experiment) == [
        "On the test split, which the search never saw, it reaches 0.861 (measured once, at the end).",
        "Of 16 trials, 5 trained to the end, 8 stopped early and 3 failed.",
        "The failures, all alike: DivergedError in trainable/training/trainer.py:123.",
    ]


def test_verdict_of_a_search_without_trials(make):
    assert verdict(load_experiment(make(trials=0))) == ["No trial gave a result.", "The search started no trial."]
    early = load_experiment(make("early", until_seconds=0.0))
    assert verdict(early) == ["No trial has a result yet.", "All 2 trials are waiting."]


def test_verdict_where_all_failed(make):
    def diverge(number, config, reports):
        config["learning_rate"] = 9e-3

    assert verdict(load_experiment(make(edit=diverge))) == [
        "No trial gave a result.",
        "All 16 trials failed.",
        "The failures, all alike: DivergedError in trainable/training/trainer.py:123.",
    ]


def test_verdict_of_one_trial(make):
    def plain(number, config, reports):
        config.update(learning_rate=1e-3, logit_scale=2.5, embedding_dim=16)

    experiment = load_experiment(make(trials=1, edit=plain))
    assert verdict(experiment)[1:] == [
        "No other trial has a value that it could be compared with.",
        "Too few trials have a value to tell which hyperparameter mattered; next, train longer than 8 epochs "
        "(it still gained 0.021 in the last quarter).",
    ]
    assert details(experiment) == [
        "The only trial trained to the end.",
    ]


def test_a_schedule_is_told_as_one(make):
    path = make(trials=2, max_epochs=2)
    steps = [
        {"epoch": 0, "source": None, "changes": {"augmentation": 0.5, "learning_rate": 0.001}},
        {"epoch": 1, "source": "trial_0000", "changes": {"learning_rate": 0.0012}},
    ]
    for schedule, told in (([], False), (steps, True)):
        (path / "best.json").write_text(json.dumps({"trial_id": "trial_0001", "schedule": schedule}))
        text = " ".join(details(load_experiment(path)))
        assert told == (
            "at first augmentation 0.5 and learning rate 0.001; from epoch 2 on learning rate 0.0012" in text
        )
        assert told == ("is not what was found" in text)


def value_of(values):
    """An edit that gives the trials these values, after a learning rate that does not diverge."""

    def edit(number, config, reports):
        config.update(learning_rate=1e-3, logit_scale=2.5, embedding_dim=16)
        for report in reports:
            report["val_accuracy"] = values[number] * report["epoch"] / len(reports)

    return edit


def second(path):
    return verdict(load_experiment(path))[1]


def test_a_lead_beyond_chance_in_the_images_is_called_so(make):
    text = second(make(trials=3, scheduler="none", max_epochs=1, edit=value_of([0.9, 0.5, 0.4])))
    assert text.startswith("Its lead over the next, trial 1, is 0.400, and 95 % of resamples of 420 validation images")
    assert "more than chance" in text


def test_what_may_be_as_good_is_counted(make):
    text = second(make(trials=4, max_epochs=1, edit=value_of([0.80, 0.79, 0.78, 0.3])))
    assert "2 others may be as good; further seeds (--confirm 3) would tell." in text
    assert "--confirm" not in second(
        make("pbt", trials=4, max_epochs=1, scheduler="pbt", edit=value_of([0.8, 0.79, 0.78, 0.3]))
    )


def test_a_value_like_guessing_is_called_so(make):
    text = second(make(trials=2, max_epochs=1, edit=value_of([0.15, 0.14])))
    assert text.startswith("Whether that is more than guessing, nobody can tell")


def test_without_images_seeds_are_all_there_is_to_ask_for(make):
    path = make(trials=3, max_epochs=1, metric="val_loss", mode="min")
    assert second(path).startswith("One seed each says little")


def confirm(path, values, others):
    found = {"mean": sum(values) / len(values), "std": 0.01, "values": values}
    (path / "best.json").write_text(json.dumps({"trial_id": "t0000", "confirmation": found}))
    configs = [{"trial_id": "t0000", "number": 0, **found}, {"trial_id": "t0001", "number": 1, "values": others}]
    (path / "confirmation.json").write_text(json.dumps({"configs": configs}))
    return second(path)


def test_further_seeds_say_how_sure_it_is(make):
    path = make(trials=3, max_epochs=1, edit=value_of([0.80, 0.79, 0.3]))
    text = confirm(path, [0.78, 0.79, 0.80], [0.60, 0.61, 0.62])
    assert text.startswith("Trained again with 3 further seeds, its config gives 0.790 ± 0.010 on validation")
    assert "0.180 ahead of trial 1" in text
    assert "which seeds alone do not make" in text
    assert "so the two cannot be told apart" in confirm(path, [0.78, 0.70, 0.80], [0.77, 0.71, 0.79])


@pytest.mark.parametrize("rate", [9e-3, 1.02e-4])
def test_a_range_is_widened_where_the_best_lie_at_its_edge(make, rate):
    def edge(number, config, reports):
        config.update(learning_rate=rate * (1 + 0.001 * number), logit_scale=2.5, embedding_dim=16)
        reports[:] = [{**report, "val_accuracy": 0.5} for report in reports]

    space = {"learning_rate": "loguniform(0.0001,0.01)"}
    if rate > 5e-3:  # which would diverge in the generated search
        space, rate = {"learning_rate": "loguniform(0.00001,0.001)"}, 9e-4

    def at(number, config, reports):
        edge(number, config, reports)
        config["learning_rate"] = rate * (1 + 0.001 * number)

    text = verdict(load_experiment(make(trials=5, edit=at, space=space)))[2]
    side = "upper edge, 0.001" if rate == 9e-4 else "lower edge, 0.0001"
    assert f"widen the range of the learning rate (the best of 3 of the best 3 trials lie at its {side})" in text


def test_many_failures_are_mended_first(make):
    def fail(number, config, reports):
        config["learning_rate"] = 9e-3 if number % 2 else 1e-3

    text = verdict(load_experiment(make(trials=8, edit=fail)))[2]
    assert "next, mend first what made 4 of 8 trials fail" in text
