"""A small search as it was recorded: 12 trials on the built-in faces, some stopped, some diverged, two cut off.

`recorded/golden.json` is what the report said of it when somebody last read and approved that.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.asked import classes, commands, question, ranges
from analysis.cost import costs
from analysis.findings import causes_of, tiles
from analysis.frames import Experiment, load_experiment
from analysis.tables import trials_table
from analysis.verdict import details, verdict

RECORDED = Path(__file__).parent / "recorded"


def told(experiment: Experiment) -> dict[str, Any]:
    """All tables and sentences, as JSON values."""
    table = trials_table(experiment)
    found = {
        "verdict": verdict(experiment),
        "details": details(experiment),
        "tiles": tiles(experiment),
        "question": question(experiment),
        "ranges": ranges(experiment),
        "classes": classes(experiment),
        "costs": costs(experiment),
        "causes": [{**cause, "traceback": bool(cause["traceback"])} for cause in causes_of(experiment)],
        "headings": table["headings"],
        "trials": [[cell["text"] for cell in row["cells"]] for row in table["rows"]],
        "command": commands(experiment).splitlines()[1],
    }
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("name", sorted(json.loads((RECORDED / "golden.json").read_text())))
def test_the_report_says_what_was_approved(name: str) -> None:
    golden = json.loads((RECORDED / "golden.json").read_text())
    assert told(load_experiment(RECORDED))[name] == golden[name]


def test_nothing_that_is_said_is_left_out() -> None:
    assert set(told(load_experiment(RECORDED))) == set(json.loads((RECORDED / "golden.json").read_text()))
