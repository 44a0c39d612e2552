import mmap
from pathlib import Path

import pytest

from trainable.slot.memory import HOST_MARGIN_BYTES, Footprint, MemoryGuard, measure_footprint


def guard(*footprints: Footprint) -> MemoryGuard:
    return MemoryGuard(iter(footprints).__next__)


def test_the_first_trial_sets_the_baseline() -> None:
    assert guard(Footprint(10**12, 10**12)).leak(reported=True) is None


def test_a_trial_that_came_to_no_report_is_no_baseline() -> None:
    full = Footprint(2**40, 2**40)
    watched = guard(Footprint(0, 0), full, full)

    assert [watched.leak(reported=reported) for reported in (False, True, False)] == [None, None, None]


@pytest.mark.parametrize(
    ("growth", "leaks"),
    [(Footprint(511 * 2**20, 0), False), (Footprint(513 * 2**20, 0), True), (Footprint(0, 65 * 2**20), True)],
)
def test_growth_within_the_margin_is_no_leak(growth: Footprint, leaks: bool) -> None:
    watched = guard(Footprint(0, 0), growth)
    watched.leak(reported=True)

    assert (watched.leak(reported=False) is not None) == leaks


def test_slow_growth_adds_up() -> None:
    watched = guard(*(Footprint(200 * 2**20 * trial, 0) for trial in range(4)))

    assert [watched.leak(reported=True) is not None for _ in range(4)] == [False, False, False, True]


def test_measures_what_this_process_really_holds() -> None:
    before = measure_footprint().host_bytes
    held = bytearray(HOST_MARGIN_BYTES)
    with_block = measure_footprint().host_bytes
    del held
    after = measure_footprint().host_bytes

    assert with_block - before > 0.9 * HOST_MARGIN_BYTES
    assert after - before < 0.1 * HOST_MARGIN_BYTES


def test_pages_of_a_mapped_file_are_not_held(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"1" * 2**26)
    before = measure_footprint().host_bytes
    with (tmp_path / "images").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as images:
        assert images[:: mmap.PAGESIZE].count(b"1") == 2**26 // mmap.PAGESIZE
        assert measure_footprint().host_bytes - before < 2**24
