import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.best_model import FILE, best_model_plots, best_model_section, sample_images
from analysis.figures import plots_of
from analysis.frames import load_experiment
from analysis.page import render
from tests.analysis.conftest import write_best
from tests.evaluations import evaluation
from trainable.training.evaluation_file import NAME, VERSION, Evaluation, write_evaluation

HOSTILE = "<script>alert(1)</script>"


def show(path: Path, found: Evaluation) -> Path:
    """Give an experiment a best model with what it made of the test split."""
    write_best(path)
    write_evaluation(path / "best", found)
    return path


@pytest.fixture
def shown(make: Callable[..., Path]) -> Path:
    return show(make(trials=4), evaluation())


def test_the_matrix_has_counts_in_its_cells_and_shares_of_rows_as_colours(shown: Path) -> None:
    confusion, _ = best_model_plots(load_experiment(shown))

    assert confusion.rows == confusion.columns == ["angry", "happy", "sad"]
    assert confusion.values == [[0.8, 0.2, 0.0], [0.0, 0.8, 0.2], [0.0, 0.0, 1.0]]
    assert confusion.texts == [["8", "2", "0"], ["0", "8", "2"], ["0", "0", "8"]]
    assert confusion.hover[0][1] == "angry, taken for happy: 2 of 10 (20%)"
    assert confusion.bounds == (0.0, 1.0)
    (trace,) = confusion.plotly().data
    assert trace.z.tolist()[0] == pytest.approx([0.8, 0.2, 0.0])


def test_the_map_of_prompts_tells_which_classes_were_not_trained_on(shown: Path) -> None:
    _, prompts = best_model_plots(load_experiment(shown))

    assert prompts.columns == ["angry", "happy", "sad", "happily surprised *"]
    assert prompts.values[0] == [1.0, 0.25, 0.25, 0.25]
    assert prompts.texts[0][:2] == ["1.00", "0.25"]
    assert "English and Korean prompts" in prompts.caption
    assert "with * were not trained on" in prompts.caption


def test_the_section_says_first_what_to_know(shown: Path) -> None:
    section = best_model_section(load_experiment(shown))

    assert section is not None
    text = " ".join(section["sentences"])
    assert text.startswith("28 test images of the trained classes")
    assert "Never predicted: angry." in text
    assert "20% of happy are taken for sad." in text
    assert section["rows"][0] == ["angry", "–", "0.800", "0.750", "10"]
    assert section["rows"][-1] == ["mean of the classes", "0.800", "0.850", "0.750", "28"]
    assert [(one["truth"], one["predicted"], one["probability"]) for one in section["mistakes"]] == [
        ("angry", "happy", "90%"),
        ("happy", "sad", "78%"),
    ]


def test_samples_stand_class_by_class(shown: Path) -> None:
    groups = sample_images(load_experiment(shown))

    assert [(group["name"], group["seen"], len(group["pictures"])) for group in groups] == [
        *((name, True, 2) for name in ("angry", "happy", "sad")),
        ("happily surprised", False, 2),
    ]


def test_a_perfect_model_has_no_mistakes_to_show(make: Callable[..., Path]) -> None:
    perfect = {**evaluation(), "confusion": [[5, 0, 0], [0, 5, 0], [0, 0, 0]], "mistakes": []}
    path = show(make(trials=4), perfect)
    section = best_model_section(load_experiment(path))

    assert section is not None
    assert section["mistakes"] == []
    assert not any("mistake" in sentence for sentence in section["sentences"])
    values = best_model_plots(load_experiment(path))[0].values
    assert values[2] == [0, 0, 0]
    assert not any(math.isnan(value) for row in values for value in row)


def test_too_many_classes_for_maps_are_said(make: Callable[..., Path]) -> None:
    path = show(make(trials=4), {**evaluation(), "confusion": None, "prompts": None})
    section = best_model_section(load_experiment(path))

    assert best_model_plots(load_experiment(path)) == []
    assert section is not None
    assert "too many for maps" in section["sentences"][-1]


def test_many_classes_are_read_by_hovering(make: Callable[..., Path]) -> None:
    names = [f"class_{number}" for number in range(16)]
    confusion, prompts = best_model_plots(load_experiment(show(make(trials=4), evaluation(names))))

    assert (confusion.texts, prompts.texts) == ((), ())
    assert confusion.hover[0][1] == "class 0, taken for class 1: 2 of 10 (20%)"
    assert prompts.hover[0][1] == "class 0 and class 1: 0.250"


def test_the_page_shows_all_of_it_and_loads_nothing(shown: Path) -> None:
    experiment = load_experiment(shown)
    plots = plots_of(experiment)
    html = render(experiment, plots)
    assert [plot.name for plot in plots["best_model"]] == ["confusion", "prompt_similarity"]

    assert '<section id="best-model">' in html
    assert 'href="#best-model"' in html
    assert {"plot-confusion", "plot-prompt_similarity"} <= set(html.split('"'))
    sources = [part.split('"')[0] for part in html.partition("<script type=")[0].split(' src="')[1:]]
    assert len(sources) == 2 + 8
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_an_experiment_without_the_file_shows_a_sentence(demo: Path) -> None:
    experiment = load_experiment(demo)
    section = best_model_section(experiment)

    assert section is not None
    assert section["sentences"] == [sentence for sentence in section["sentences"] if FILE in sentence] != []
    assert "not known" in render(experiment, plots_of(experiment))
    assert (best_model_plots(experiment), sample_images(experiment)) == ([], [])


def test_a_file_of_another_version_is_left_alone(make: Callable[..., Path]) -> None:
    path = show(make(trials=4), {**evaluation(), "version": 99})
    section = best_model_section(load_experiment(path))

    assert section is not None
    assert "another version" in section["sentences"][0]


def test_a_search_without_a_best_model_has_no_section(make: Callable[..., Path]) -> None:
    experiment = load_experiment(make(trials=4))
    assert best_model_section(experiment) is None
    assert '<section id="best-model">' not in render(experiment, plots_of(experiment))


def test_hostile_names_and_addresses_are_shown_not_run(make: Callable[..., Path]) -> None:
    hostile = evaluation((HOSTILE, "b"), (HOSTILE + "2",))
    hostile["mistakes"][0]["picture"] = 'https://a.org/x.png" onerror="alert(1)'
    hostile["samples"][0]["picture"] = "javascript:alert(1)"
    experiment = load_experiment(show(make(trials=4), hostile))
    html = render(experiment, plots_of(experiment))

    assert HOSTILE not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "a.org" not in html
    assert "javascript:" not in html.partition("<script type=")[0]


def test_the_file_is_the_one_that_a_search_writes(shown: Path) -> None:
    assert f"best/{NAME}" == FILE
    assert json.loads((shown / FILE).read_text())["version"] == VERSION == evaluation()["version"]
