"""Reader of pictures in folders: `<split>/<class>/*.png`, or `<class>/*.png` without splits.

Splits are folders called `train` (or `training`), `validation` (`val`, `valid`) and `test` (`testing`). What is
missing is drawn, seeded and stratified by class:

- no split folders: a tenth of each class for validation, a tenth for test, the rest for training;
- no validation or no test folder: a tenth of each class of the training folder in its place.

A class is a folder of `train`; its name is taken as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainable.data.source import PrepareOptions, Record, Source
from trainable.errors import DataError, nearest

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
DRAWN_SHARE = 0.1
"""Share of each class that a split which is not there takes from the training images."""


@dataclass(frozen=True)
class LabelledFile:
    """A picture and the index of its class."""

    path: Path
    label: int


def read_folder(data_path: Path | None, options: PrepareOptions) -> Source:
    """Read a folder of pictures; raises `DataError` where there is none, or a class or split is not usable."""
    root = existing_path("folder", data_path)
    if not root.is_dir():
        raise DataError(f"the folder data set must be a folder of class folders, but {root} is a file.")
    folders = split_folders(root) or {"train": root}
    if "train" not in folders:
        raise DataError(f"{root} must hold a folder train beside {', '.join(sorted(folders))}, but has none.")
    classes = _class_names(folders["train"])
    files = {split: labelled_files(folder, classes) for split, folder in folders.items()}
    _require_images(files["train"], classes, folders["train"])
    missing = [split for split in ("validation", "test") if split not in files]
    files |= stratify(files["train"], dict.fromkeys(missing, DRAWN_SHARE), rest="train", seed=options.seed)
    paths = [file.path for labelled in files.values() for file in labelled]
    return Source.found(
        "folder",
        root,
        classes,
        options,
        records=file_records(root, files, seed=options.seed),
        about={"drawn_splits": missing, "seed": options.seed},
        files=paths,
        total=len(paths),
    )


def existing_path(dataset: str, data_path: Path | None) -> Path:
    """The path of a data set that has to be somewhere, absolute; raises `DataError` where it is not."""
    if data_path is None:
        raise DataError(f"the data set {dataset} must be given a path, but got none. Name it with --data-path.")
    if not data_path.exists():
        raise DataError(f"the path of the data set {dataset} must exist, but {data_path} does not.")
    return data_path.resolve()


def split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder in `root`, for those that are there; raises `DataError` where two claim one split."""
    found: dict[str, Path] = {}
    for folder in subfolders(root):
        for split, names in SPLIT_FOLDERS.items():
            if folder.name.lower() not in names:
                continue
            if split in found:
                raise DataError(
                    f"{root} must hold one folder of the {split} split, but has both {found[split].name} and "
                    f"{folder.name}. Move one away."
                )
            found[split] = folder
    return found


def subfolders(root: Path) -> list[Path]:
    """The folders in `root` in order of their names, without hidden ones."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def places(root: Path) -> Iterator[Path]:
    """Where the files of a data set may lie: at `root` itself, and where that is a folder, in the folders in it."""
    yield root
    if root.is_dir():
        yield from subfolders(root)


def labelled_files(
    folder: Path, classes: tuple[str, ...], rename: Mapping[str, str] | None = None
) -> list[LabelledFile]:
    """The pictures in the class folders of `folder`, in order of their names.

    `rename` maps a folder's name to its class where they differ. Raises `DataError` for a folder that is no class.
    """
    files: list[LabelledFile] = []
    for class_folder in subfolders(folder):
        name = (rename or {}).get(class_folder.name, class_folder.name)
        if name not in classes:
            raise DataError(
                f"every folder in {folder} must be one of the classes {', '.join(classes)}, but got "
                f"{class_folder.name!r}.{nearest(name, classes)}"
            )
        label = classes.index(name)
        pictures = sorted(file for file in class_folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        files.extend(LabelledFile(picture, label) for picture in pictures)
    return files


def stratify(
    files: list[LabelledFile], shares: Mapping[str, float], *, rest: str, seed: int
) -> dict[str, list[LabelledFile]]:
    """Draw for each split of `shares` that share of every class, at least one image; `rest` gets what is left.

    Raises `DataError` where a class has fewer images than there are splits.
    """
    drawn: dict[str, list[LabelledFile]] = {split: [] for split in (*shares, rest)}
    labels = np.array([file.label for file in files])
    for label in np.unique(labels):
        rows = np.random.default_rng((seed, int(label))).permutation(np.flatnonzero(labels == label))
        if len(rows) <= len(shares):
            raise DataError(
                f"a class must have an image for each of the splits {', '.join(drawn)} to be drawn, but "
                f"{files[rows[0]].path.parent} has {len(rows)}."
            )
        start = 0
        for split, share in shares.items():
            end = start + max(1, round(share * len(rows)))
            drawn[split].extend(files[row] for row in rows[start:end])
            start = end
        drawn[rest].extend(files[row] for row in rows[start:])
    return drawn


def file_records(root: Path, files: Mapping[str, list[LabelledFile]], *, seed: int) -> Iterator[Record]:
    """A record for each file, shuffled within its split, so that any first part of a split shows all classes."""
    for split, labelled in files.items():
        for row in np.random.default_rng(seed).permutation(len(labelled)):
            file = labelled[row]
            origin = str(file.path.relative_to(root))
            yield Record(split=split, label=file.label, image=file.path, origin=origin)


def _class_names(train: Path) -> tuple[str, ...]:
    classes = tuple(folder.name for folder in subfolders(train))
    if len(classes) < 2:
        raise DataError(
            f"{train} must hold a folder of pictures for each of two classes or more, but has "
            f"{'only ' + classes[0] if classes else 'none'}."
        )
    return classes


def _require_images(files: list[LabelledFile], classes: tuple[str, ...], train: Path) -> None:
    for label in sorted(set(range(len(classes))) - {file.label for file in files}):
        raise DataError(
            f"every class folder must hold pictures ({', '.join(IMAGE_SUFFIXES)}), but "
            f"{train / classes[label]} has none."
        )
