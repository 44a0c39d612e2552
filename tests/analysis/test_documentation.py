"""What docs/analysis.md shows is run, on the recorded search."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/analysis.md").read_text(), re.DOTALL)


def test_the_examples_run_in_their_order(demo, make, tmp_path, monkeypatch, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/demo").symlink_to(demo)
    make("results/other", trials=12, seed=5, algorithm="random", scheduler="none")
    monkeypatch.chdir(tmp_path)
    names = {}
    assert len(blocks()) > 5
    for block in blocks():
        exec(compile(block, "docs/analysis.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "The best is trial 7" in printed
    assert "At an equal budget of" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"results", "val_loss.png", "best_so_far.svg"}
