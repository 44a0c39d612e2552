"""Which data a result came from: the `dataset` block of experiment.json, best.json and run.json, and the way back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainable.data.preparation import prepare_store
from trainable.data.store import Store, is_store
from trainable.data.unseen import UnseenClasses
from trainable.errors import ConfigError, DataError


def describe_data(store: Store, data_path: str | None, unseen: UnseenClasses) -> dict[str, Any]:
    """The `dataset` block: the store, the path that the user gave for its source, and which classes are not trained.

    `counts` are of the images that are used.
    """
    return {
        "name": store.manifest.dataset,
        "path": data_path,
        "store": str(store.path.resolve()),
        "content_hash": store.manifest.content_hash,
        "classes": list(store.manifest.classes),
        "unseen_classes": list(store.manifest.unseen_classes),
        "unseen": unseen.to_dict(),
        "counts": unseen.counts(store.manifest),
    }


def reopen_data(block: Any) -> Store:
    """Open the store that a `dataset` block describes, or prepare it again where it is gone.

    Raises `ConfigError` for a block that lacks something or holds something odd, and `DataError` where the data are
    gone or differ.
    """
    _check(block)
    kept = is_store(block["store"])
    store = Store.open(Path(block["store"]) if kept else prepare_store(block["name"], block["path"]))
    if store.manifest.content_hash != block["content_hash"]:
        raise DataError(
            f"the images must be those of the recorded run (content hash {block['content_hash'][:12]}), but "
            f"{store.path} now holds others ({store.manifest.content_hash[:12]}); to use what is there now, name it "
            "with --dataset and --data-path."
        )
    return store


def recorded_unseen(block: Any) -> UnseenClasses:
    """The classes that a `dataset` block says are not trained; raises `ConfigError` where it holds something odd."""
    groups = block.get("unseen") if isinstance(block, Mapping) else None
    try:
        return UnseenClasses.from_dict(groups)
    except (TypeError, AttributeError) as error:
        raise ConfigError(
            f"the unseen classes of a dataset block must be lists under validation and test, but are {groups!r}; name "
            "them with --unseen."
        ) from error


def _check(block: Any) -> None:
    names = ("name", "path", "store", "content_hash")
    if not isinstance(block, Mapping) or any(name not in block for name in names):
        raise ConfigError(
            f"a dataset block must hold name, path, store and content_hash, but got {block!r}; name the data with "
            "--dataset and --data-path."
        )
    for name in names:
        if not isinstance(block[name], str) and not (name == "path" and block[name] is None):
            raise ConfigError(
                f"each entry of a dataset block must be a string, the path may be null, but {name} is "
                f"{block[name]!r}; name the data with --dataset and --data-path."
            )
