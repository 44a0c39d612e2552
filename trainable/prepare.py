"""Prepare a data set into a store: decoded once, mapped by every trial.

    python trainable/prepare.py --dataset fer2013 --data-path path/to/fer2013

    python trainable/prepare.py --dataset fer2013 --data-path path/to/fer2013 --out s3://bucket/fer2013

prints where the store lies, how many images each split has of each class, and what was dropped. A search prepares its
data set itself; this command shows what it will see, or writes a store that is to be used elsewhere, also in a bucket.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainable.errors import CommandParser, DataError, run_command
from trainable.storage.storage import is_remote

if TYPE_CHECKING:
    from trainable.data.source import PrepareOptions
    from trainable.data.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(lambda: _prepare(argv))


def _prepare(argv: Sequence[str] | None) -> int:
    from trainable.data.fetched import require_place, upload_store
    from trainable.data.preparation import dataset_names, prepare_store
    from trainable.data.source import PrepareOptions
    from trainable.data.store import Store

    arguments = _parser(dataset_names(), PrepareOptions()).read(argv)
    options = PrepareOptions(
        image_size=arguments.image_size,
        channels=arguments.channels,
        seed=arguments.seed,
        keep_duplicates=arguments.keep_duplicates,
        max_broken=arguments.max_broken,
        min_vote_share=arguments.min_vote_share,
        synthetic_sizes=_sizes(arguments.synthetic_sizes),
    )
    address = arguments.out if arguments.out is not None and is_remote(arguments.out) else None
    if address is not None:
        require_place(address)
    out = arguments.out if address is None else None
    path = prepare_store(arguments.dataset, arguments.data_path, out=out, options=options, workers=arguments.workers)
    store = Store.open(path)
    if address is not None:
        upload_store(store, address)
    print(_describe(store, address or str(path)))
    return 0


def _parser(datasets: Sequence[str], defaults: "PrepareOptions") -> CommandParser:
    parser = CommandParser(prog="glance-prepare", description="Prepare a data set into a store.")
    add = parser.add_argument
    add("--dataset", default="synthetic", metavar="NAME", help=f"{', '.join(datasets)} (default: %(default)s)")
    add("--data-path", metavar="PATH", help="file or folder of the data set; synthetic has none")
    add("--out", metavar="PLACE", help="where the store goes: a folder, or an address such as s3://bucket/faces")
    add("--image-size", type=int, default=defaults.image_size, metavar="PIXELS", help="side (default: %(default)s)")
    add("--channels", type=int, default=defaults.channels, choices=(1, 3), help="1 gray, 3 RGB (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        help="of synthetic faces and of splits to draw (default: %(default)s)",
    )
    add(
        "--keep-duplicates",
        action="store_true",
        help="keep training images that equal a validation or test image, or have one flat colour",
    )
    add(
        "--max-broken",
        type=int,
        default=defaults.max_broken,
        metavar="N",
        help="unreadable rows or files to skip before giving up (default: %(default)s)",
    )
    add(
        "--min-vote-share",
        type=float,
        default=defaults.min_vote_share,
        metavar="SHARE",
        help="of all votes for a picture's likeliest emotion, with which ferplus keeps it (default: %(default)s)",
    )
    add(
        "--synthetic-sizes",
        default=",".join(map(str, defaults.synthetic_sizes)),
        metavar="N,N,N",
        help="images of the basic emotions to draw for train, validation and test (default: %(default)s)",
    )
    add("--workers", type=int, default=0, metavar="N", help="decoding processes (default: one per core)")
    return parser


def _sizes(text: str) -> tuple[int, int, int]:
    try:
        train, validation, test = (int(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"--synthetic-sizes must be three numbers like 4200,1050,1050, but got {text!r}.") from None
    return train, validation, test


def _describe(store: "Store", place: str) -> str:
    """The store's place, a table of images per class and split, and what was dropped."""
    manifest = store.manifest
    splits = list(manifest.counts)
    rows = [[name, *(f"{manifest.counts[split][name]:,}" for split in splits)] for name in manifest.classes]
    totals = [f"{sum(manifest.counts[split].values()):,}" for split in splits]
    table = [["class", *splits], *rows, ["all", *totals]]
    width = max(len(row[0]) for row in table)
    lines = [row[0].ljust(width) + "".join(cell.rjust(12) for cell in row[1:]) for row in table]
    kind = "gray" if manifest.channels == 1 else "RGB"
    dropped = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in manifest.dropped.items())
    return "\n".join(
        [
            f"store    {place}",
            f"data     {manifest.dataset}, {manifest.image_size}x{manifest.image_size} {kind}",
            f"hash     {manifest.content_hash}",
            "",
            *lines,
            "",
            f"dropped  {dropped}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
