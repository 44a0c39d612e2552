"""The README's tables against the programs they describe."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from search.command_line import flag_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def expected_flags() -> str:
    rows = [(f"`{flag}`", f"`{default}`" if default else "", cell(doc)) for flag, default, doc in flag_table()]
    return "\n".join(f"| {' | '.join(row)} |" for row in [("flag", "default", "what it does"), ("---",) * 3, *rows])


def commands() -> dict[str, str]:
    """Command name -> module that holds its `main`."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    return {name: target.partition(":")[0] for name, target in scripts.items()}


def description(help_text: str) -> str:
    """The first sentence between the usage and the first group of flags."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in help_text.split("\n\n")]
    about = next(text for text in paragraphs if not text.startswith("usage:"))
    return re.split(r"(?<=\.)\s", about)[0].rstrip(".")


def test_the_table_of_flags_is_that_of_the_parser() -> None:
    table = README.partition("<!-- flags -->\n")[2].partition("\n<!-- /flags -->")[0]
    assert table == expected_flags(), f"put this into the README:\n{expected_flags()}"


@pytest.mark.parametrize(("name", "module"), commands().items())
def test_every_command_stands_in_the_readme_with_its_help(
    name: str, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(["--help"])
    assert ended.value.code == 0
    row = f"| `{name}` | `{module.replace('.', '/')}.py` | {description(capsys.readouterr().out)} |"
    assert row in README, f"put this into the README:\n{row}"


def test_every_relative_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(links) > 3
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named
    assert [target for target in sorted(named) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
