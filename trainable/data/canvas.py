"""A batch of gray pictures to draw on: soft-edged shapes from signed distances, all pictures at once.

Every shape is a function of the coordinate fields `u` (right) and `v` (down), measured in half sides of the picture,
and of per-picture numbers shaped `(N, 1, 1)`. Edges are one pixel soft, so nothing is drawn larger and reduced.
"""

from dataclasses import dataclass

import numpy as np

Field = np.ndarray
"""float32, `(N, H, W)`, or `(N, 1, 1)` for one number per picture."""


@dataclass(frozen=True)
class Canvas:
    """Pixels to draw on and the coordinates under them."""

    pixels: Field
    """Gray levels, 0 black to 1 white; changed in place."""
    u: Field
    v: Field
    edge: float
    """Width of a pixel in coordinate units."""

    def rows(self, top: float, bottom: float) -> "Canvas":
        """The same canvas between two heights, as shares of the picture: drawing on it costs less."""
        height = self.pixels.shape[1]
        part = slice(int(top * height), int(np.ceil(bottom * height)))
        return Canvas(self.pixels[:, part], self.u[:, part], self.v[:, part], self.edge)

    def paint(self, cover: Field, tone: Field | float) -> None:
        """Lay a tone over the pixels, as far as `cover` (0 to 1) says."""
        self.pixels[...] += cover * (tone - self.pixels)

    def shade(self, cover: Field) -> None:
        """Darken the pixels by the share `cover` (negative lightens)."""
        self.pixels[...] *= 1 - cover

    def inside(self, distance: Field) -> Field:
        """Cover of a shape from its signed distance, negative inside."""
        return np.clip(0.5 - distance / self.edge, 0, 1)

    def line(self, distance: Field, thickness: Field | float) -> Field:
        """Cover of a stroke of a thickness along the zeros of `distance`; one thinner than a pixel is fainter."""
        half = np.maximum(thickness, self.edge) / 2
        faint = np.minimum(thickness / self.edge, 1)
        return np.clip((half - np.abs(distance)) / self.edge + 0.5, 0, 1) * faint

    def disc(self, x: Field | float, y: Field | float, radius_x: Field | float, radius_y: Field | float) -> Field:
        """Cover of an ellipse."""
        ratio = np.sqrt(((self.u - x) / radius_x) ** 2 + ((self.v - y) / radius_y) ** 2)
        return self.inside((ratio - 1) * np.minimum(radius_x, radius_y))

    def glow(self, x: Field | float, y: Field | float, radius_x: Field | float, radius_y: Field | float) -> Field:
        """A round patch that fades from 1 in its middle to 0 at its radius."""
        return bump(((self.u - x) / radius_x) ** 2 + ((self.v - y) / radius_y) ** 2)


def bump(squared: Field) -> Field:
    """(1 - r²)² inside the unit circle and 0 outside, from r²: a bell without an exponential."""
    return np.maximum(1 - squared, 0) ** 2


def ramp(value: Field) -> Field:
    """The value clipped to 0 … 1."""
    return np.clip(value, 0, 1)


def blur(pixels: Field, amount: Field) -> Field:
    """Smooth each picture with the kernel (a, 1 - 2a, a) along both axes, twice; 0 <= a <= 1/4."""
    for _ in range(2):
        padded = np.pad(pixels, ((0, 0), (1, 1), (0, 0)), mode="edge")
        pixels = pixels + amount * (padded[:, :-2] + padded[:, 2:] - 2 * pixels)
        padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1)), mode="edge")
        pixels = pixels + amount * (padded[:, :, :-2] + padded[:, :, 2:] - 2 * pixels)
    return pixels
