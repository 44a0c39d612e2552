"""Draw the pictures of the synthetic data set that the README and the docs show.

    python -m trainable.data.gallery --out docs/images/synthetic.png
    python -m trainable.data.gallery --action-units --out docs/images/action_units.png

The first shows all 22 classes: the prototype, then faces as the data set holds them. The second shows one face with
each action unit alone.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainable.data.action_units import (
    ACTION_UNITS,
    BASIC_PROTOTYPES,
    COMPOUND_PROTOTYPES,
    PROTOTYPES,
    UNIT_NUMBERS,
    Prototype,
)
from trainable.data.faces import TRAIT_NAMES, draw
from trainable.data.synthetic import CLASSES, draw_faces, roll_faces
from trainable.errors import run_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL_TRAITS = {
    "glasses": 0.1,
    "beard": 0.1,
    "bald": 0.1,
    "bun": 0.1,
    "curls": 0.3,
    "hair_length": 0.75,
    "hair_tone": 0.12,
    "skin": 0.72,
    "fringe": 0.3,
    "light": 0.3,
    "light_angle": 0.42,
    "background": 0.78,
    "contrast": 0.6,
    "exposure": 0.75,
    "scale": 0.3,
    "gaze": 0.5,
    "age": 0.35,
}
"""The traits of the one who shows the prototypes, in [0, 1]; all others are 0.5."""

_PROTOTYPE_SIZE = 144
_HEADING = 1.0
_INK, _FAINT = "#1f2933", "#7b8794"


def main(argv: Sequence[str] | None = None) -> int:
    """Write one of the pictures."""
    parser = argparse.ArgumentParser(description="Draw the pictures that show the synthetic data set.")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--action-units", action="store_true", help="one face per action unit, not one row per class")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data set whose validation faces are shown")
    arguments = parser.parse_args(argv)

    def body() -> int:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        if arguments.action_units:
            draw_action_units(arguments.out)
        else:
            draw_classes(arguments.out, arguments.seed)
        print(arguments.out)
        return 0

    return run_command(body)


def draw_classes(out: Path, seed: int = 0) -> None:
    """Write the grid of classes: the 7 basic ones large on the left, the 15 compound ones on the right."""
    from matplotlib.figure import Figure

    small, large = 1.0, len(COMPOUND_PROTOTYPES) / len(BASIC_PROTOTYPES)
    labels, samples = (2.4, 3.4), (4, 9)
    left = labels[0] + (samples[0] + 1) * large
    width, height = left + labels[1] + (samples[1] + 1) * small, len(COMPOUND_PROTOTYPES) * small + _HEADING
    figure = Figure(figsize=(0.48 * width, 0.48 * height), dpi=140, facecolor="white")
    page = _Page(figure, width, height)
    page.block("7 basic emotions, trained on", tuple(BASIC_PROTOTYPES), (0.0, labels[0], large), samples[0], seed)
    page.block("15 compound emotions, unseen", tuple(COMPOUND_PROTOTYPES), (left, labels[1], small), samples[1], seed)
    _save(figure, out)


@dataclass(frozen=True)
class _Page:
    """A figure measured in cells, from its upper left corner."""

    figure: "Figure"
    width: float
    height: float

    def block(
        self, title: str, names: Sequence[str], place: tuple[float, float, float], samples: int, seed: int
    ) -> None:
        """Rows of one group of classes: labels, prototype, samples; `place` is its left, label width and cell size."""
        left, label, side = place
        start = left + label
        self.write(start + 0.03, _HEADING * 0.45, title, size=10.5, weight="bold", align="left")
        note = "first column: the prototype; the others: as the model sees them, 48 x 48"
        if names[0] == CLASSES[0]:
            self.write(start + 0.03, _HEADING * 0.78, note, size=7.5, colour=_FAINT, align="left")
        for row, name in enumerate(names):
            top = _HEADING + row * side
            self.write(start - 0.15, top + 0.38 * side, name.replace("_", " "), size=8 + 2.2 * (side > 1))
            self.write(start - 0.15, top + 0.38 * side + 0.36, _units(name), size=6.5 + (side > 1), colour=_FAINT)
            for column, picture in enumerate((model_face(PROTOTYPES[name]), *sample_faces(name, samples, seed))):
                self.show(start + column * side, top, side, picture)

    def write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        colour: str = "",
        weight: str = "normal",
        align: str = "right",
    ) -> None:
        """Text that ends, or begins, at a point."""
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            ha=align,
            va="center",
            fontsize=size,
            color=colour or _INK,
            fontweight=weight,
        )

    def show(self, x: float, y: float, side: float, picture: np.ndarray) -> None:
        """A picture that fills a cell but for its margin."""
        margin = 0.03 * side
        inner = side - 2 * margin
        axes = self.figure.add_axes(
            (
                (x + margin) / self.width,
                1 - (y + margin + inner) / self.height,
                inner / self.width,
                inner / self.height,
            )
        )
        _show(axes, picture)


def draw_action_units(out: Path) -> None:
    """Write the chart of action units: each at full intensity on an otherwise resting face."""
    from matplotlib.figure import Figure

    shown = [("resting face", Prototype(())), *((f"AU{n} {ACTION_UNITS[n]}", Prototype((n,))) for n in UNIT_NUMBERS)]
    columns = 7
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.55 * columns, 1.78 * rows), dpi=140, facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(left=0.005, right=0.995, top=0.965, bottom=0.005, wspace=0.05, hspace=0.14)
    for cell in axes:
        cell.set_axis_off()
    for cell, (title, prototype) in zip(axes, shown, strict=False):
        _show(cell, model_face(prototype))
        cell.set_title(title, fontsize=8, color=_INK, pad=3)
    _save(figure, out)


def model_face(prototype: Prototype) -> np.ndarray:
    """The model with a prototype's certain units, and faintly those that more than half of the people use; 0 to 1."""
    traits = np.array([[MODEL_TRAITS.get(name, 0.5) for name in TRAIT_NAMES]])
    chances = prototype.probabilities()
    active = np.where(chances == 1, 0.95, np.where(chances > 0.5, 0.45, 0.0))
    return draw(traits, np.broadcast_to(active, (1, 2, len(UNIT_NUMBERS))), _PROTOTYPE_SIZE)[0]


def sample_faces(name: str, count: int, seed: int) -> list[np.ndarray]:
    """Faces of one class, on the first random numbers of the validation split; people differ from class to class."""
    label = CLASSES.index(name)
    faces = draw_faces(np.full(count, label), roll_faces(seed, "validation", label * count, count))
    return [face / 255 for face in faces]


def _save(figure: "Figure", out: Path) -> None:
    """Write the figure as a gray PNG, a third of the size of a coloured one."""
    from PIL import Image

    figure.savefig(out, format="png")
    with Image.open(out) as picture:
        gray = picture.convert("L")
    gray.save(out, optimize=True)


def _units(name: str) -> str:
    units = sorted({*PROTOTYPES[name].always, *PROTOTYPES[name].decisive})
    return f"AU {'+'.join(str(unit) for unit in units)}" if units else "no AU"


def _show(axes: "Axes", picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
    axes.set_axis_off()


if __name__ == "__main__":
    sys.exit(main())
