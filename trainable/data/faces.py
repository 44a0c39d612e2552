"""Faces drawn from action units: a few dozen soft-edged shapes per face, a whole batch at once, in plain numpy.

A face is its traits (who, and in what light), one number in [0, 1] each, and its action units' intensities. Lengths
are in face units, half a picture's side at scale 1; `u` points right, `v` down, the origin lies between eyes and mouth.
"""

from dataclasses import dataclass

import numpy as np

from trainable.data.canvas import Canvas, Field, bump, ramp
from trainable.data.shapes import Shape

TRAITS: dict[str, tuple[float, float]] = {
    "roll": (-0.13, 0.13),  # radians
    "yaw": (-0.10, 0.10),
    "pitch": (-0.06, 0.06),
    "right": (-0.06, 0.06),
    "down": (-0.05, 0.05),
    "scale": (1.02, 1.34),
    "head_width": (0.60, 0.74),
    "head_height": (0.84, 0.94),
    "jaw": (0.10, 0.32),
    "eye_distance": (0.265, 0.315),
    "eye_height": (-0.16, -0.08),
    "eye_width": (0.135, 0.17),
    "eye_opening": (0.055, 0.085),
    "eye_tilt": (-0.035, 0.02),
    "iris": (0.062, 0.078),
    "iris_tone": (0.03, 0.34),
    "gaze": (-0.035, 0.035),
    "brow_height": (0.185, 0.235),
    "brow_length": (0.30, 0.38),
    "brow_thickness": (0.03, 0.075),
    "brow_arch": (-0.05, -0.01),
    "brow_rest": (-0.03, 0.03),
    "nose_length": (0.20, 0.27),
    "nose_width": (0.075, 0.115),
    "mouth_height": (0.43, 0.50),
    "mouth_width": (0.215, 0.275),
    "mouth_rest": (-0.025, 0.025),
    "lips": (0.032, 0.062),
    "skin": (0.42, 0.88),
    "hair_tone": (0.04, 0.62),
    "hair_volume": (0.03, 0.16),
    "hair_length": (-0.25, 1.3),
    "hairline": (-0.70, -0.54),
    "parting": (-0.3, 0.3),
    "curls": (-0.06, 0.05),
    "bun": (0.0, 1.0),
    "fringe": (0.0, 1.0),
    "bald": (0.0, 1.0),
    "glasses": (0.0, 1.0),
    "glasses_size": (0.19, 0.24),
    "beard": (0.0, 1.0),
    "beard_tone": (0.2, 0.6),
    "age": (0.0, 1.0),
    "background": (0.08, 0.92),
    "background_slope": (-0.22, 0.22),
    "clothes": (0.08, 0.9),
    "light_angle": (-2.6, 2.6),  # radians from above
    "light": (0.05, 0.42),
    "exposure": (0.94, 1.24),
    "contrast": (0.84, 1.18),
    "blur": (0.0, 0.09),
    "noise": (0.003, 0.026),
}
"""What varies between faces besides the expression, each uniform within its range."""

TRAIT_NAMES = tuple(TRAITS)


@dataclass(frozen=True)
class Face:
    """One batch while it is being drawn."""

    canvas: Canvas
    traits: dict[str, Field]
    shape: Shape

    def __getitem__(self, name: str) -> Field:
        """A trait, or the mean of a shape's offset over both sides."""
        return self.traits[name] if name in self.traits else self.shape.mean(name)

    def sides(self, canvas: Canvas, name: str) -> Field:
        """A shape's offset on the side of the face that each pixel is on."""
        return np.where(canvas.u < 0, self.shape.left(name), self.shape.right(name))

    @property
    def eye(self) -> Field:
        """Height of the eyes' centres."""
        return self.traits["eye_height"]

    @property
    def mouth(self) -> Field:
        """Height of the mouth's middle at rest, moved by the jaw."""
        return self.traits["mouth_height"] + 0.35 * self.shape.mean("jaw")


def draw(traits: np.ndarray, intensities: np.ndarray, size: int) -> np.ndarray:
    """Draw faces without noise and blur: gray levels 0 to 1, float32 `(N, size, size)`.

    `traits` are N rows of numbers in [0, 1], one per name of `TRAIT_NAMES`; `intensities` are those of
    `action_units.UNIT_NUMBERS` on the left and the right of the picture, `(N, 2, A)`.
    """
    scaled = scale_traits(traits)
    shape = Shape(intensities)
    canvas, features = _coordinates(scaled, size)
    back, face = Face(canvas, scaled, shape), Face(features, scaled, shape)
    _background(back)
    _hair_behind(back)
    _neck(back)
    _head(back)
    for part in (_forehead, _nose, _cheeks, _beard, _eyes, _brows, _mouth, _glasses):
        part(face)
    _hair_before(back)
    _develop(canvas, scaled)
    return canvas.pixels


def scale_traits(traits: np.ndarray) -> dict[str, Field]:
    """Traits by name in their own ranges, `(N, 1, 1)` each, from numbers in [0, 1], `(N, len(TRAITS))`."""
    return {
        name: np.asarray(low + (high - low) * traits[:, column], dtype=np.float32)[:, None, None]
        for column, (name, (low, high)) in enumerate(TRAITS.items())
    }


def _coordinates(traits: dict[str, Field], size: int) -> tuple[Canvas, Canvas]:
    """The head's canvas, turned and scaled, and that of its features, which yaw and pitch shift most in the middle."""
    cells = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = cells[None, None, :] - traits["right"], cells[None, :, None] - traits["down"]
    cosine, sine = np.cos(traits["roll"]) / traits["scale"], np.sin(traits["roll"]) / traits["scale"]
    u, v = cosine * x + sine * y, cosine * y - sine * x
    depth = bump(0.45 * (u / traits["head_width"]) ** 2 + 0.3 * (v / traits["head_height"]) ** 2)
    pixels = np.zeros_like(u)
    edge = 2 / size
    return Canvas(pixels, u, v, edge), Canvas(pixels, u - traits["yaw"] * depth, v - traits["pitch"] * depth, edge)


def _background(face: Face) -> None:
    c = face.canvas
    c.paint(np.ones_like(c.u), face["background"] + face["background_slope"] * (c.u + 0.6 * c.v))


def _hair_outline(face: Face) -> Field:
    """Signed distance to the outline of head and hair, seen from the front."""
    c, volume = face.canvas, face["hair_volume"]
    width, height = face["head_width"] + volume, face["head_height"] + volume
    waves = np.abs(c.u * 5 - np.round(c.u * 5)) + np.abs(c.v * 5 - np.round(c.v * 5))
    return (np.sqrt((c.u / width) ** 2 + (c.v / height) ** 2) - 1) * width + np.maximum(face["curls"], 0) * (
        2 * waves - 1
    )


def _bald(face: Face) -> Field:
    return (face["bald"] > 0.93).astype(np.float32)


def _hair_behind(face: Face) -> None:
    c, volume = face.canvas, face["hair_volume"]
    sides = np.abs(c.u) - (face["head_width"] + volume) * (1 - 0.12 * ramp(c.v))
    top = np.where(c.v < -0.1, _hair_outline(face), sides)
    bun = c.rows(0.0, 0.4)
    bun.paint(bun.disc(0, -face["head_height"] - volume, 0.2, 0.17) * (face["bun"] > 0.9), face["hair_tone"] * 0.8)
    c.paint(c.inside(np.maximum(top, c.v - face["hair_length"])) * (1 - _bald(face)), face["hair_tone"] * 0.75)


def _neck(face: Face) -> None:
    c = face.canvas.rows(0.6, 1.0)
    c.paint(c.inside(1.02 + 0.5 * ramp(np.abs(c.u) - 0.3) - c.v), face["clothes"])
    neck = np.maximum(np.abs(c.u) - 0.62 * face["head_width"], 0.3 - c.v)
    c.paint(c.inside(neck), face["skin"] * 0.62)


def _head(face: Face) -> None:
    """Ears, then the head: an ellipse narrowed towards the jaw, shaded as a ball (Lambert's law)."""
    c, width = face.canvas, face["head_width"]
    height = np.where(c.v > 0, face["head_height"] + face.shape.mean("jaw"), face["head_height"])
    bare = np.maximum(face["hair_length"] < 0.3, _bald(face))
    for side in (-1, 1):
        c.paint(c.disc(side * (width + 0.01), 0.02, 0.075, 0.16) * bare, face["skin"] * 0.8)
    x = c.u / (width * (1 - face["jaw"] * ramp(c.v) ** 2))
    y = c.v / height
    squared = x * x + y * y
    z = np.sqrt(np.maximum(1 - 0.9 * squared, 0.05))
    light = face["light"] * (np.sin(face["light_angle"]) * x - np.cos(face["light_angle"]) * y)
    c.paint(c.inside((np.sqrt(squared) - 1) * width), face["skin"] * (0.62 + 0.42 * z + light))


def _forehead(face: Face) -> None:
    """Wrinkles across the forehead (AU1, AU2) and between the brows (AU4)."""
    c = face.canvas.rows(0.0, 0.62)
    across = ramp(1.2 - np.abs(c.u) / 0.26)
    depth = face["forehead"] * (0.35 + 0.65 * face["age"])
    for height in (0.36, 0.45):
        arc = c.v - (face.eye - height - 0.25 * c.u**2)
        c.shade(c.line(arc, 0.022) * across * ramp(0.30 * depth))
    upright = ramp(1.3 - np.abs(c.v - face.eye + 0.17) / 0.085)
    crease = c.line(np.abs(c.u) - 0.038 - 0.10 * (face.eye - c.v - 0.17), 0.024)
    c.shade(crease * upright * ramp(0.42 * face["furrow"]))


def _nose(face: Face) -> None:
    c = face.canvas.rows(0.22, 0.82)
    tip = face.eye + face["nose_length"] + face["nose"] + 0.1
    width, m = face["nose_width"], np.abs(c.u)
    side = np.sin(face["light_angle"])
    bridge = bump(((c.u + side * 0.055) / 0.06) ** 2 + ((c.v - tip + 0.17) / 0.22) ** 2)
    c.shade(0.22 * bridge)
    c.shade(-0.12 * c.glow(side * 0.02, tip - 0.05, 0.07, 0.09))
    wing = np.sqrt(((m - 0.55 * width) / (0.62 * width)) ** 2 + ((c.v - tip) / 0.062) ** 2) - 1
    c.shade(
        0.42 * c.line(wing * 0.05, 0.02) * ramp((m - 0.4 * width) * 20)
        + 0.16 * c.glow(0, tip + 0.06, 1.4 * width, 0.05)
    )
    c.shade(0.62 * bump(((m - 0.5 * width) / 0.045) ** 2 + ((c.v - tip - 0.025) / 0.028) ** 2))
    wrinkle = ramp(face["wrinkle"])
    for step in (0.10, 0.165, 0.23):
        oblique = c.v - (tip - step + 0.7 * m)
        c.shade(0.34 * wrinkle * c.line(oblique, 0.024) * ramp(1.6 - m / 0.07))


def _cheeks(face: Face) -> None:
    """Raised cheeks (AU6), folds from nose to mouth (AU9 to AU12), bags and crow's feet."""
    c = face.canvas.rows(0.35, 0.95)
    m, cheek = np.abs(c.u), ramp(face.sides(c, "cheek"))
    ball_x, ball_y = (m - 0.36) / 0.17, (c.v - (face.eye + 0.27 - 0.05 * cheek)) / 0.13
    ball = bump(ball_x**2 + ball_y**2)
    c.shade(-(0.03 + 0.13 * cheek) * ball)
    below = bump(ball_x**2 + (ball_y + 0.95) ** 2 * 3)
    c.shade((0.08 + 0.05 * face["age"] + 0.20 * cheek) * below)
    start, end = face.eye + face["nose_length"] + 0.06, face.mouth + 0.6 * face["corner"]
    t = (c.v - start) / np.maximum(end - start, 0.12)
    path = (
        face["nose_width"]
        + 0.05
        + (face["mouth_width"] + face["width"] + 0.03 - face["nose_width"]) * t * (1.5 - 0.5 * t)
    )
    fold = ramp(0.08 * face["age"] + 0.27 * face.sides(c, "fold"))
    c.shade(fold * bump(((m - path) / 0.045) ** 2) * ramp(4 * (t + 0.1)) * ramp(2.5 * (1.1 - t)))


def _eyes(face: Face) -> None:
    c = face.canvas.rows(0.18, 0.72)
    m, side = np.abs(c.u), np.where(c.u < 0, np.float32(-1), np.float32(1))
    dx = m - face["eye_distance"]
    x = dx / face["eye_width"]
    y = c.v - face.eye - face["eye_tilt"] * x
    upper = np.maximum(face["eye_opening"] + face.sides(c, "lid"), 0.008)
    lower = np.maximum(0.72 * face["eye_opening"] + face.sides(c, "lower_lid"), 0.006)
    bow = 1 - x * x
    top, bottom = -upper * bow, lower * bow
    c.shade(0.24 * bump((dx / 0.23) ** 2 + ((y + 0.05) / 0.17) ** 2))
    within = c.inside(np.maximum(top - y, y - bottom)) * (np.abs(x) < 1)
    c.paint(within, 0.50 + 0.42 * face["skin"])
    disc = np.sqrt((dx - side * face["gaze"]) ** 2 + (y + 0.006) ** 2)
    c.paint(within * c.inside(disc - face["iris"]), face["iris_tone"])
    c.paint(within * c.inside(disc - 0.45 * face["iris"]), 0.02)
    c.paint(within * c.inside(np.sqrt((dx - side * face["gaze"] + 0.02 * side) ** 2 + (y + 0.03) ** 2) - 0.02), 0.95)
    ends = ramp((1.12 - np.abs(x)) * 6)
    c.paint(c.line(y - top, 0.038) * ends * 0.85, 0.30 * face["skin"] * face["hair_tone"])
    c.shade(0.28 * c.line(y - bottom, 0.022) * ends)
    crease = y - top + 0.045 + 0.35 * np.maximum(face["lid"], 0)
    c.shade(0.30 * c.line(crease, 0.022) * ends)
    c.shade(0.34 * ramp(face.sides(c, "lid_crease")) * c.line(y - bottom - 0.04, 0.024) * ends)
    feet = ramp(face.sides(c, "crow_feet")) * ramp(3 - np.abs(x - 1.5) * 6) * (0.3 + 0.7 * face["age"])
    for slope in (-0.35, 0.25):
        c.shade(0.36 * feet * c.line(y - slope * (dx - 0.16), 0.02))


def _brows(face: Face) -> None:
    c = face.canvas.rows(0.06, 0.62)
    gap = 0.115 + face.sides(c, "brow_gap")
    t = (np.abs(c.u) - gap) / face["brow_length"]
    inner, middle, outer = (face.sides(c, f"brow_{part}") for part in ("inner", "middle", "outer"))
    inner = inner + face["brow_rest"]
    outer = outer - face["brow_rest"] + 0.015
    arch = middle + face["brow_arch"] - (inner + outer) / 2
    curve = face.eye - face["brow_height"] + inner * (1 - t) + outer * t + 4 * arch * t * (1 - t)
    thickness = face["brow_thickness"] * (1.1 - 0.65 * ramp(t))
    ends = ramp(0.5 + np.minimum(t, 1 - t) * face["brow_length"] / c.edge)
    tone = np.minimum(face["hair_tone"], 0.62 * face["skin"])
    c.paint(c.line(c.v - curve, thickness) * ends * 0.9, tone)


def _mouth(face: Face) -> None:
    """Lips around an opening with teeth and tongue; the corners, the line between the lips and the chin move."""
    c = face.canvas.rows(0.52, 1.0)
    x = c.u / (face["mouth_width"] + face["width"])
    flat = x * x
    bow = np.maximum(1 - flat * (1 - 0.45 * ramp(face["square"]) * (1 - flat)), 0)
    bend = np.sqrt(flat + 0.12) - 0.346
    line = c.v - face.mouth - face["mouth_rest"] * flat - face.sides(c, "corner") * 1.4 * bend - face["middle"] * bow
    opening = face["open"]
    raised = face.sides(c, "upper_lip") * (1 - flat * flat)
    top = -(0.25 * opening + 0.55 * np.minimum(opening, 0.05) / 0.05 * raised) * bow
    bottom = opening * bow
    thin = 1 - ramp(face["thin"]) * 0.85
    upper = 0.75 * face["lips"] * thin * (bow + 0.18 * bump(((np.abs(x) - 0.28) / 0.3) ** 2)) + 0.45 * raised * bow
    lower = (face["lips"] * thin + face["lower_lip"]) * bow
    across = ramp(0.5 + (1 - np.abs(x)) * face["mouth_width"] / c.edge)
    lip_tone = face["skin"] * 0.62
    c.shade(0.16 * bump(flat * 0.8 + ((line - bottom - lower - 0.045) / 0.05) ** 2))
    c.paint(c.inside(np.maximum(top - upper - line, line - top)) * across, lip_tone * 0.88)
    c.paint(c.inside(np.maximum(bottom - line, line - bottom - lower)) * across, lip_tone * 1.08)
    hollow = c.inside(np.maximum(top - line, line - bottom)) * across * ramp(opening / 0.02)
    c.paint(hollow, 0.06)
    c.paint(hollow * c.inside(0.16 - line) * ramp(opening * 6 - 0.4), 0.24)
    c.paint(hollow * c.inside(line - top - face["teeth"] * np.sqrt(bow)), 0.55 + 0.4 * face["skin"])
    c.paint(
        c.line(line - top, 0.026) * ramp((1.06 - np.abs(x)) * 8) * ramp(1 - opening / 0.03) * 0.8, 0.22 * face["skin"]
    )
    _mouth_corners(face, c, x, line)


def _mouth_corners(face: Face, c: Canvas, x: Field, line: Field) -> None:
    """Creases under the corners (AU15), pressed lips (AU24) and the chin (AU17)."""
    at_corner = (np.abs(x) - 1.06) / 0.2
    c.shade(0.22 * bump(at_corner**2 + (line / 0.05) ** 2))
    crease = ramp(face.sides(c, "corner_crease"))
    c.shade(0.30 * crease * bump(((np.abs(x) - 1.12) / 0.28) ** 2 + ((line - 0.07) / 0.085) ** 2))
    press = ramp(face["press"])
    c.shade(
        press
        * (
            0.22 * bump((x / 0.9) ** 2 + ((line + 0.06) / 0.035) ** 2)
            + 0.25 * bump((x / 0.8) ** 2 + ((line - 0.06) / 0.035) ** 2)
        )
    )
    c.shade(-0.12 * press * bump((x / 0.9) ** 2 + ((line - 0.1) / 0.04) ** 2))
    chin = ramp(face["chin"])
    bulge = (c.u / 0.16) ** 2 + ((c.v - face.mouth - 0.23) / 0.1) ** 2
    c.shade(-0.12 * chin * bump(bulge))
    arc = c.v - (face.mouth + 0.115 + 1.6 * c.u * c.u)
    c.shade(0.42 * chin * c.line(arc, 0.03) * ramp(2 - np.abs(c.u) / 0.07))


def _beard(face: Face) -> None:
    """A beard, a moustache, both or neither; thin ones are stubble."""
    c = face.canvas.rows(0.5, 1.0)
    tone = np.minimum(face["hair_tone"], 0.6 * face["skin"])
    below = ramp((c.v - 0.22 - 0.35 * (1 - (c.u / face["head_width"]) ** 2)) * 6)
    inside = c.inside((np.sqrt((c.u / face["head_width"]) ** 2 + (c.v / face["head_height"]) ** 2) - 1) * 0.6)
    c.paint(below * inside * (face["beard"] > 0.86) * face["beard_tone"], tone)
    lip = bump((c.u / 0.26) ** 2 + ((c.v - face.mouth + 0.095) / 0.065) ** 2)
    moustache = (face["beard"] > 0.90) | ((face["beard"] > 0.80) & (face["beard"] < 0.84))
    c.paint(ramp(2 * lip) * moustache * face["beard_tone"], tone)


def _glasses(face: Face) -> None:
    c = face.canvas.rows(0.15, 0.72)
    worn = (face["glasses"] > 0.80).astype(np.float32)
    size, m = face["glasses_size"], np.abs(c.u)
    x, y = (m - face["eye_distance"]) / size, (c.v - face.eye - 0.02) / (0.82 * size)
    rim = np.sqrt(np.sqrt(x**4 + y**4)) - 1
    tone = 0.08 + 0.3 * (face["glasses"] > 0.95)
    c.shade(-0.06 * worn * c.inside(rim * size))
    c.paint(worn * c.line(rim * size, 0.034) * 0.9, tone)
    bridge = c.line(c.v - face.eye + 0.02, 0.03) * (m < face["eye_distance"] - size)
    temple = c.line(c.v - face.eye + 0.03, 0.03) * ((m > face["eye_distance"] + size) & (m < face["head_width"]))
    c.paint(worn * np.maximum(bridge, temple) * 0.9, tone)


def _hair_before(face: Face) -> None:
    """The hair above the hairline, parted or with a fringe, in strands."""
    c = face.canvas.rows(0.0, 0.75)
    outline = _hair_outline(Face(c, face.traits, face.shape))
    aside = (c.u - face["parting"]) / face["head_width"]
    locks = np.abs(4.5 * aside - np.round(4.5 * aside))
    fringe = face["fringe"] > 0.62
    line = face["hairline"] + np.where(fringe, 0.17 + 0.12 * aside**2 + 0.045 * locks, 0.62 * aside**2)
    line = np.minimum(line, face.eye - 0.13 + 0.5 * ramp(np.abs(c.u) - 0.42))
    temples = face["head_width"] - 0.03 - np.abs(c.u) + 0.5 * ramp(c.v + 0.14 - 0.3 * (face["hair_length"] > 0.3))
    distance = np.maximum(outline, np.minimum(c.v - line, temples))
    strands = 0.30 * np.abs(11 * aside * (1.4 + c.v) - np.round(11 * aside * (1.4 + c.v)))
    shine = 0.35 * bump((c.u / 0.6) ** 2 + ((c.v + 0.82) / 0.16) ** 2)
    c.paint(c.inside(distance) * (1 - _bald(face)), face["hair_tone"] * (0.80 + strands + shine) + 0.02 + 0.05 * shine)


def _develop(canvas: Canvas, traits: dict[str, Field]) -> None:
    """Exposure and contrast about mid-gray."""
    developed = 0.47 + traits["contrast"] * (canvas.pixels * traits["exposure"] - 0.47)
    canvas.pixels[...] = ramp(developed)
