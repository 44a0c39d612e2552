"""Python reads this at its start: a process that has it on PYTHONPATH connects to this machine alone."""

import os
import socket
from pathlib import Path

REAL = socket.socket.connect


def connect(self: socket.socket, address: object) -> None:
    """Connect within this machine; write down and refuse every other address."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):  # type: ignore[index]
        with Path(os.environ["STAND_IN_LOG"] + ".refused").open("a", encoding="utf-8") as log:
            log.write(f"{address}\n")
        raise ConnectionRefusedError(f"only this machine may be reached, not {address}")
    REAL(self, address)


socket.socket.connect = connect  # type: ignore[method-assign, assignment]
