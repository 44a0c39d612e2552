"""Files that are whole or absent: written beside their place, then renamed into it; and paths as users write them.

Also what costs little: a second name of a file instead of a copy, and a folder that goes without a complaint.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainable.errors import ConfigError, ExperimentError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, then rename it to `path`.

    The file gets the permissions of any new file, also where `write` is a library that keeps its files private.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        permissions = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(permissions)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_remote(place: str | Path) -> bool:
    """Whether a place is an address, such as s3://bucket/prefix, and not a folder."""
    return "://" in str(place)


def user_path(text: str | Path) -> Path:
    """A path from a flag, where a leading ``~`` is a home folder.

    Raises `ConfigError` where nobody has that home, and for an address where only a file or folder serves.
    """
    if is_remote(text):
        raise ConfigError(f"this must be a file or folder of this machine, but got the address {text}.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"a path must begin with ~ only before a user's name or /, but got {str(text)!r}.") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no such file.

    Raises `ExperimentError` where it holds something else or cannot be read.
    """
    try:
        return json_object(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ExperimentError(f"{path} must be readable, but: {error.strerror}. Restore or remove it.") from error


def json_object(data: bytes, where: object) -> dict[str, Any]:
    """What is a JSON object in UTF-8; raises `ExperimentError`, which names `where` it lies, for anything else."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise ExperimentError(f"{where} must hold a JSON object, but: {error}. Restore or remove it.") from error
    if not isinstance(document, dict):
        raise ExperimentError(f"{where} must hold a JSON object, but holds a {type(document).__name__}.")
    return document


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON object, indented, atomically."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name (a hard link), or a copy of that name where the file system has no links.

    The link costs no room, and stays what it was when the first name is given to another file.
    """
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


def remove_folder(path: Path) -> None:
    """Remove a folder that may be gone already; what cannot be removed costs room, and nothing ends for it."""
    shutil.rmtree(path, ignore_errors=True)
