"""The versions of constraints.txt, and which of them a container image or a command names."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

IMAGE_TAG = re.compile(r"(?P<ray>\d+\.\d+\.\d+\w*)-py(?P<python>\d+)(?:-(?P<platform>cpu|gpu|cu[\d.]+(?:-cudnn\d*)?))?")
"""Ray's scheme: version of Ray, of Python, and platform (https://hub.docker.com/r/rayproject/ray)."""


@cache
def pinned(package: str) -> str:
    """The version of a package in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE | re.IGNORECASE)
    if match is None:
        raise KeyError(package)
    return match[1]


@cache
def pinned_python() -> str:
    """The Python that Glance is tested with, as two numbers."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'^python_version = "(\d+\.\d+)"$', text, re.MULTILINE)
    if match is None:
        raise KeyError("python_version")
    return match[1]


def wrong_image(image: str, *, gpu: bool) -> str | None:
    """A sentence on an image that does not hold the pinned versions, or cannot serve a node with or without GPUs.

    A Ray image's CUDA is not compared: torch's wheel brings its own, and needs of the node the driver alone.
    """
    tag = image.rpartition("/")[2].partition(":")[2]
    match = IMAGE_TAG.fullmatch(tag)
    wanted = f"{pinned('ray')}-py{pinned_python().replace('.', '')}-{'gpu' if gpu else 'cpu'}"
    if match is None:
        return f"the image's tag must name its versions, as {wanted} does, but the image is {image}."
    if match["ray"] != pinned("ray"):
        return f"the image must hold the Ray of constraints.txt, {pinned('ray')}, but {image} holds {match['ray']}."
    if match["python"] != pinned_python().replace(".", ""):
        return f"the image must hold Python {pinned_python()}, but the image is {image}."
    if gpu and match["platform"] in (None, "cpu"):
        return f"a node with GPUs must have an image for them, such as one with the tag {wanted}, but has {image}."
    return None


def wrong_pins(command: str) -> Iterator[str]:
    """A sentence for each package that a shell command installs against constraints.txt."""
    for part in re.split(r"&&|\|\||;|\n", command):
        if not re.search(r"\bpip3? install\b", part):
            continue
        for package, version in re.findall(r"([A-Za-z][\w.-]*)(?:\[[\w,]*\])?==([\w.]+)", part):
            yield from _wrong_pin(package, version)
        if not re.search(r"(?:-c|--constraint)[ =]\S*constraints\.txt", part):
            yield f"pip must install at the versions of constraints.txt (-c constraints.txt), but: {part.strip()}"


def _wrong_pin(package: str, version: str) -> Iterator[str]:
    try:
        expected = pinned(package)
    except KeyError:
        return
    if version != expected:
        yield f"{package} must be {expected}, as constraints.txt has it, but a command installs {version}."
