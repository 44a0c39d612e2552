"""Pretrain the text tower on KOTE's comments, so that it knows which emotion words go together.

    python trainable/pretrain_text.py --data-path path/to/kote --out towers/kote
    python search/run.py --set text_tower=towers/kote --set weight_init=pretrained --set language=both

writes a local tower: a comment lies near the prompts of its labels. Beside it stand `quality.json`, how well it tells
the labels of the test comments next to TF-IDF with logistic regression, and `labels.png`, how alike the labels' prompts
are next to how often the labels go together.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainable.config import LANGUAGES
from trainable.errors import ConfigError, require, run_command
from trainable.files import user_path

if TYPE_CHECKING:
    from trainable.training.text_pretraining import PretrainOptions
    from trainable.training.text_quality import Quality


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _pretrain(argv))


def _pretrain(argv: Sequence[str] | None) -> int:
    from trainable.data.kote import read_kote
    from trainable.training.text_pretraining import pretrain_tower, starting_tower
    from trainable.training.text_quality import Baseline, measure
    from trainable.training.tower_folder import write_tower

    arguments, options = _arguments(argv)
    if arguments.out.exists():
        raise ConfigError(f"--out must not exist yet, but {arguments.out} does; remove it or choose another folder.")
    comments = read_kote(arguments.data_path, held_out=arguments.held_out, seed=options.seed)
    print(
        f"{len(comments.train):,} comments to train and {len(comments.held_out):,} held out, of {comments.source}; "
        f"{len(comments.test):,} to test"
    )
    tower = starting_tower(comments.train, options, arguments.text_tower)
    baseline = Baseline.tuned(comments.train, comments.held_out)
    pretrainer = pretrain_tower(tower, comments, options, baseline, show=print)
    rivals = {
        "text tower": measure(pretrainer.scores, comments),
        "TF-IDF": measure(baseline.fitted(comments.train), comments),
    }
    agreement = write_tower(arguments.out, pretrainer, comments, baseline, rivals)
    _print_table(rivals)
    print(f"Labels whose prompts are alike go together: rank correlation {agreement:.2f} over the pairs of labels.")
    print(f"The tower, its quality.json and labels.png are in {arguments.out}")
    return 0


def _print_table(rivals: "Mapping[str, Quality]") -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(next(iter(rivals.values())).to_dict())
    table = Table("on the test comments", *(name.replace("_", " ") for name in names))
    for rival, quality in rivals.items():
        table.add_row(rival, *(f"{value:.3f}" for value in quality.to_dict().values()))
    Console().print(table)


def _arguments(argv: Sequence[str] | None) -> "tuple[argparse.Namespace, PretrainOptions]":
    from trainable.training.text_pretraining import PretrainOptions

    defaults = PretrainOptions()
    arguments = _parser(defaults).parse_args(argv)
    require(0 < arguments.held_out < 1, "0 < --held-out < 1", arguments.held_out)
    names = {field.name for field in dataclasses.fields(defaults)} & vars(arguments).keys()
    return arguments, PretrainOptions(**{name: getattr(arguments, name) for name in names})


def _parser(defaults: "PretrainOptions") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glance-pretrain-text",
        description="Pretrain the text tower on Korean comments and their emotions.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--data-path",
        required=True,
        type=user_path,
        metavar="FOLDER",
        help="KOTE: val, test and where there is one train",
    )
    add("--out", required=True, type=user_path, metavar="FOLDER", help="where the tower goes; must not exist yet")
    add("--text-tower", metavar="TOWER", help="a folder or hub id to start from (default: a small tower from scratch)")
    add("--language", choices=LANGUAGES, default=defaults.language, help="of the prompts (default: %(default)s)")
    add(
        "--held-out",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of the training comments, where KOTE's train file is missing (default: %(default)s)",
    )
    for name, about in _NUMBERS.items():
        value = getattr(defaults, name)
        flag, help_text = f"--{name.replace('_', '-')}", f"{about} (default: %(default)s)"
        add(flag, type=type(value), default=value, metavar="N", help=help_text)
    return parser


_NUMBERS = {
    "epochs": "passes over the comments",
    "least_steps": "with fewer steps than this, more passes",
    "batch_size": "comments per step",
    "learning_rate": "its peak; a pretrained tower wants 1e-4 or less",
    "distillation": "share of TF-IDF's cross-fitted probabilities in the targets, 0 to 1",
    "seed": "of weights, batches and the comments that are held out",
}


if __name__ == "__main__":
    sys.exit(main())
