"""How far many bytes have come: a bar on a terminal, lines elsewhere, on stderr."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from trainable.storage.storage import Moved

Watch = Callable[[str, int], AbstractContextManager[Moved]]
"""Shows what is done to so many bytes, from its title, for as long as it lasts."""

LINE_SECONDS = 10.0


@contextlib.contextmanager
def shown(title: str, total: int) -> Iterator[Moved]:
    """Show it to whoever started this process."""
    if not sys.stderr.isatty():
        yield Lines(title, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda moved: bar.advance(task, moved)


def unwatched(title: str, total: int) -> AbstractContextManager[Moved]:
    """Show nothing."""
    return contextlib.nullcontext(lambda moved: None)


class Lines:
    """A line where it begins, and another every ten seconds while bytes move."""

    def __init__(
        self,
        title: str,
        total: int,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._say, self._clock = title, say, clock
        self._lock = threading.Lock()
        self.moved, self.total = 0, total
        self._began = self._told = clock()
        say(f"{title} ({size(total)})")

    def __call__(self, moved: int) -> None:
        """So many bytes more."""
        with self._lock:
            self.moved += moved
            now = self._clock()
            if now < self._told + LINE_SECONDS:
                return
            self._told = now
            share, speed = self.moved / max(1, self.total), self.moved / (now - self._began)
        self._say(f"{self._title}: {share:.0%} of {size(self.total)}, {size(speed)}/s")


def size(count: float) -> str:
    """Bytes in a unit that suits them, such as 12.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
