"""The store: a data set decoded once, memory-mapped read-only by every worker of a node.

    <store>/manifest.json                       what it holds, how much of it, and the hash of it; written last
    <store>/{train,validation,test}.arrow       Arrow IPC files of ONE record batch each, columns
                                                `image` fixed_size_binary[H * W * channels], `label` int16, and
                                                where people voted `shares` fixed_size_list<float32>[classes]

One record batch means that all images of a split lie behind each other in the file, so that one numpy array views
them without a copy. A store is written to a temporary folder beside its place and renamed, so that a folder with a
manifest is whole.
"""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from trainable.errors import DataError, close_match, nearest

SPLITS = ("train", "validation", "test")
STORE_VERSION = 1
MANIFEST_NAME = "manifest.json"
_BLOCK_BYTES = 1 << 24
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a store says of itself."""

    version: int
    """`STORE_VERSION` of the code that wrote it."""
    dataset: str
    """Name of the data set's reader, such as `fer2013`."""
    classes: tuple[str, ...]
    """Canonical names, e.g. "angry"; the index is the label."""
    unseen_classes: tuple[str, ...]
    """Those of `classes` that the training split never shows."""
    image_size: int
    """Side of the square images, in pixels."""
    channels: int
    """1 (gray) or 3 (RGB)."""
    counts: dict[str, dict[str, int]]
    """Split -> class -> images."""
    content_hash: str
    """SHA-256 (hex) over classes, shape, labels and image bytes of every split."""
    source: dict[str, Any]
    """Path, seed and options: where it came from."""
    dropped: dict[str, int]
    """Reason -> images that the source has and the store has not."""

    @property
    def seen_classes(self) -> tuple[str, ...]:
        """The classes of the training split, in order of their labels."""
        return tuple(name for name in self.classes if name not in self.unseen_classes)


@dataclass(frozen=True)
class Split:
    """Images and labels of one split."""

    images: np.ndarray
    """(N, H, W) uint8, or (N, H, W, 3) where the store has three channels; not writable."""
    labels: np.ndarray
    """(N,) int64, indices into the manifest's `classes`."""
    shares: np.ndarray | None = None
    """(N, C) float32, where people voted: the share of votes for each of the manifest's `classes`."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Store:
    """A store on disk, opened with `Store.open`."""

    path: Path
    manifest: Manifest
    _splits: Mapping[str, Split] = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a store and check that it is whole; its images are not read yet.

        Where another writer replaces the store meanwhile, the new one is opened, never a mixture.
        Raises `DataError` where `path` holds no store, a torn one, or one of another version.
        """
        path = Path(path)
        while True:
            text = _read_manifest(path)
            try:
                manifest = parse_manifest(path, text)
                splits = {name: _map_split(path / f"{name}.arrow", manifest) for name in SPLITS}
            except DataError:
                if _read_manifest(path) == text:
                    raise
            else:
                if _read_manifest(path) == text:
                    return cls(path, manifest, splits)

    def split(self, name: str, classes: Sequence[str] | None = None) -> Split:
        """The images of a split that belong to `classes` (default: the seen classes).

        Labels stay indices into `manifest.classes`. The seen classes of a split lie in one piece, so that this
        copies nothing; another choice of classes may copy. Raises `DataError` for an unknown split or class.
        """
        if name not in SPLITS:
            raise DataError(f"split must be one of {', '.join(SPLITS)}, but got {name!r}.{close_match(name, SPLITS)}")
        names = self.manifest.seen_classes if classes is None else classes
        wanted = [self.label_of(class_name) for class_name in names]
        whole = self._splits[name]
        rows = np.flatnonzero(np.isin(whole.labels, wanted))
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            piece = slice(rows[0], rows[-1] + 1)
            return Split(whole.images[piece], whole.labels[piece], _some(whole.shares, piece))
        return Split(_frozen(whole.images[rows]), _frozen(whole.labels[rows]), _some(whole.shares, rows))

    def label_of(self, class_name: str) -> int:
        """The label of a class; raises `DataError` for one that the store does not have."""
        if class_name not in self.manifest.classes:
            known = self.manifest.classes
            raise DataError(f"{self.path} has no class {class_name!r}.{nearest(class_name, known)}")
        return self.manifest.classes.index(class_name)

    def verify(self) -> None:
        """Read every image and compare with the content hash; raises `DataError` where they differ."""
        if _content_hash(self.manifest.classes, self._splits) != self.manifest.content_hash:
            raise _torn(self.path, "its images are not those that its manifest was written for")


def is_store(path: str | Path) -> bool:
    """Whether a folder holds a store's manifest (whole or not: `Store.open` tells)."""
    return (Path(path) / MANIFEST_NAME).is_file()


def stores_folder() -> Path:
    """Where stores go by default: $GLANCE_CACHE/stores, or glance/stores in $XDG_CACHE_HOME or ~/.cache."""
    if cache := os.environ.get("GLANCE_CACHE"):
        return Path(cache).expanduser() / "stores"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "glance" / "stores"


def foreign_names(names: Iterable[str]) -> list[str]:
    """Those of some files' names that no store has, sorted."""
    return sorted(set(names) - {MANIFEST_NAME, *(f"{name}.arrow" for name in SPLITS)})


def check_replaceable(path: str | Path) -> None:
    """Raise `DataError` where a path holds anything but a store, whole or torn: that is not ours to remove."""
    path = Path(path)
    try:
        foreign = foreign_names(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        if not path.exists():
            raise
        foreign = [path.name]
    if foreign:
        raise DataError(f"{path} must be a store or not exist yet, but holds {foreign[0]}. Name another folder.")


def write_store(
    path: str | Path,
    *,
    dataset: str,
    classes: Sequence[str],
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    shares: Mapping[str, np.ndarray | None] | None = None,
    unseen_classes: Sequence[str] = (),
    source: Mapping[str, Any] | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Store:
    """Write a store and open it.

    `splits` gives for each of `SPLITS` images, uint8 (N, H, H) or (N, H, H, 3), and labels, (N,) integers; `shares`,
    for all of them or none, the votes (N, C), see `Split.shares`. Images of seen classes are stored before those of
    unseen ones. A whole store with the same manifest that lies at `path` already is kept; another store is replaced
    (for an instant there is none). Two writers at once leave one whole store, and each gets back what it wrote.

    Raises `DataError` where the parts do not fit together, or `path` holds something that is no store.
    """
    path = Path(path)
    given = {name: Split(*splits[name], (shares or {}).get(name)) for name in SPLITS if name in splits}
    ordered = {name: _seen_first(split, classes, unseen_classes) for name, split in given.items()}
    _check_parts(classes, unseen_classes, ordered)
    shape = ordered["train"].images.shape
    manifest = Manifest(
        version=STORE_VERSION,
        dataset=dataset,
        classes=tuple(classes),
        unseen_classes=tuple(unseen_classes),
        image_size=shape[1],
        channels=shape[3] if len(shape) == 4 else 1,
        counts={name: _count(classes, split.labels) for name, split in ordered.items()},
        content_hash=_content_hash(classes, ordered),
        source=dict(source or {}),
        dropped=dict(dropped or {}),
    )
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir(parents=True)
        for name, split in ordered.items():
            _write_split(temporary / f"{name}.arrow", split)
        text = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False) + "\n"
        (temporary / MANIFEST_NAME).write_text(text, encoding="utf-8")
        store = Store.open(temporary)
        move_into_place(temporary, path, text)
    except OSError as error:
        raise DataError(f"a store must be writable at {path}, but {error.filename}: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return dataclasses.replace(store, path=path)


def _read_manifest(path: Path) -> str:
    try:
        return (path / MANIFEST_NAME).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path} must be a store with a {MANIFEST_NAME}, but has none. Prepare one with glance-prepare."
        ) from None
    except (OSError, ValueError) as error:
        raise _torn(path, f"its {MANIFEST_NAME} cannot be read ({error})") from error


def parse_manifest(path: str | Path, text: str) -> Manifest:
    """The manifest of the store at a path or address, with its version checked first; raises `DataError`."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _torn(path, f"its {MANIFEST_NAME} cannot be read ({error})") from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != STORE_VERSION:
        raise DataError(
            f"the store {path} must have version {STORE_VERSION}, but has {version!r}. Prepare it again "
            "with glance-prepare."
        )
    try:
        document["classes"] = tuple(document["classes"])
        document["unseen_classes"] = tuple(document["unseen_classes"])
        return Manifest(**document)
    except (KeyError, TypeError) as error:
        raise _torn(path, f"its {MANIFEST_NAME} lacks or adds a field ({error})") from error


def _map_split(file: Path, manifest: Manifest) -> Split:
    """View one Arrow file; raises `DataError` where it is absent, cut off, or of another shape."""
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(file), "r")).get_batch(0)
        column = batch.column("image")
        shape = (manifest.image_size, manifest.image_size) + ((3,) if manifest.channels == 3 else ())
        pixels = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=batch.num_rows * column.type.byte_width)
        images = pixels.reshape(batch.num_rows, *shape)
        labels = batch.column("label").to_numpy().astype(np.int64)
        shares = _mapped_shares(batch, len(manifest.classes))
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise _torn(file.parent, f"{file.name} cannot be read ({error})") from error
    if len(labels) != sum(manifest.counts[file.stem].values()):
        raise _torn(file.parent, f"{file.name} holds another number of images than its manifest says")
    return Split(_frozen(images), _frozen(labels), shares)


def _mapped_shares(batch: pa.RecordBatch, classes: int) -> np.ndarray | None:
    if "shares" not in batch.schema.names:
        return None
    return batch.column("shares").flatten().to_numpy().reshape(batch.num_rows, classes)


def _write_split(file: Path, split: Split) -> None:
    """Write one record batch straight from the arrays, which may be maps larger than the memory."""
    rows = len(split.labels)
    width = split.images[0].size
    pixels = pa.py_buffer(np.ascontiguousarray(split.images).reshape(-1))
    image = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), rows, [None, pixels])
    columns = {"image": image, "label": pa.array(split.labels.astype(np.int16))}
    if split.shares is not None:
        flat = pa.array(split.shares.astype(np.float32).reshape(-1))
        columns["shares"] = pa.FixedSizeListArray.from_arrays(flat, split.shares.shape[1])
    batch = pa.record_batch(columns)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def move_into_place(temporary: Path, path: Path, manifest_text: str) -> None:
    """Rename the finished store to its place; keep a whole one with the same manifest, as another writer puts there."""
    while True:
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        else:
            return
        if _is_whole_with(path, manifest_text):
            return
        _remove_store(path)


def _is_whole_with(path: Path, manifest_text: str) -> bool:
    try:
        Store.open(path)
        return (path / MANIFEST_NAME).read_text(encoding="utf-8") == manifest_text
    except (DataError, OSError):
        return False


def _remove_store(path: Path) -> None:
    """Move a store aside in one step, then delete it; processes that have it mapped keep their maps."""
    check_replaceable(path)
    aside = path.parent / f".{path.name}.{uuid.uuid4().hex}.old"
    try:
        path.replace(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def _seen_first(split: Split, classes: Sequence[str], unseen: Sequence[str]) -> Split:
    """The rows of seen classes before those of unseen ones, otherwise in their order; copies only to reorder."""
    is_unseen = np.isin(split.labels, [index for index, name in enumerate(classes) if name in unseen])
    if np.all(is_unseen[:-1] <= is_unseen[1:]):
        return split
    order = np.argsort(is_unseen, kind="stable")
    return Split(split.images[order], split.labels[order], _some(split.shares, order))


def _some(shares: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray | None:
    return None if shares is None else shares[rows]


def _check_parts(classes: Sequence[str], unseen: Sequence[str], splits: Mapping[str, Split]) -> None:
    """Raise `DataError` unless images, labels and classes fit together."""
    missing = [name for name in SPLITS if name not in splits or not len(splits[name])]
    _require(not missing, "every split must hold images", f"none for {', '.join(missing)}")
    _require(len(set(classes)) == len(classes), "class names must differ", f"{list(classes)}")
    _require(set(unseen) < set(classes), "unseen classes must be some of the classes", f"{list(unseen)}")
    shape = splits["train"].images.shape[1:]
    _require(shape in ((shape[0], shape[0]), (shape[0], shape[0], 3)), "images must be square, gray or RGB", f"{shape}")
    for name, split in splits.items():
        images, labels = split.images, split.labels
        _require(images.dtype == np.uint8, f"images of {name} must be uint8", f"{images.dtype}")
        _require(images.shape == (len(labels), *shape), f"images of {name} must be {shape} each", f"{images.shape}")
        wanted = None if splits["train"].shares is None else (len(labels), len(classes))
        shares = None if split.shares is None else split.shares.shape
        _require(shares == wanted, f"shares of {name} must be {wanted}, as the train split's", f"{shares}")
        in_range = labels.min() >= 0 and labels.max() < len(classes)
        _require(in_range, f"labels of {name} must be 0 to {len(classes) - 1}", f"{labels.min()} to {labels.max()}")
    shown = sorted({classes[label] for label in np.unique(splits["train"].labels)} & set(unseen))
    _require(not shown, "the train split must not show unseen classes", ", ".join(shown))


def _require(holds: bool, rule: str, got: str) -> None:
    if not holds:
        raise DataError(f"{rule}, but got {got}.")


def _count(classes: Sequence[str], labels: np.ndarray) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}


def _content_hash(classes: Sequence[str], splits: Mapping[str, Split]) -> str:
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    for name in SPLITS:
        split = splits[name]
        digest.update(f"{name} {split.images.shape}".encode())
        digest.update(split.labels.astype("<i2").tobytes())
        if split.shares is not None:
            digest.update(split.shares.astype("<f4").tobytes())
        pixels = np.ascontiguousarray(split.images).reshape(-1)
        for start in range(0, len(pixels), _BLOCK_BYTES):
            digest.update(pixels[start : start + _BLOCK_BYTES].data)
    return digest.hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _torn(path: str | Path, problem: str) -> DataError:
    return DataError(f"the store {path} is damaged: {problem}. Delete the folder and prepare it again.")
