"""How far trials came."""

from typing import Any


def rungs_of(manifest: dict[str, Any]) -> list[int]:
    """The epochs at which successive halving decides, before the last one; none without a halving scheduler."""
    keys = ("grace_epochs", "reduction_factor", "max_epochs")
    if manifest.get("scheduler") != "asha" or not all(isinstance(manifest.get(key), int) for key in keys):
        return []
    rung, factor, last = (int(manifest[key]) for key in keys)
    rungs = []
    while 0 < rung < last and factor > 1:
        rungs.append(rung)
        rung *= factor
    return rungs
