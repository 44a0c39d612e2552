import pytest
import torch

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.slot.failure import PROJECT, describe_failure, is_device_broken, is_out_of_memory


def caught(error: type[Exception], call: object) -> Exception:
    with pytest.raises(error) as info:
        call()  # type: ignore[operator]
    return info.value


def test_names_the_last_frame_inside_the_project() -> None:
    failure = describe_failure(caught(ConfigError, lambda: TrialConfig(batch_size=1)))

    file, line = failure["where"].split(":")
    assert file == "trainable/config.py"
    assert "require(self.batch_size" in (PROJECT / file).read_text().splitlines()[int(line) - 1]
    assert failure["kind"] == "ConfigError"
    assert failure["message"] == "batch_size >= 2 must hold, but got 1."
    assert failure["traceback"].startswith("Traceback")
    assert failure["traceback"].rstrip().endswith(failure["message"])


def test_a_library_below_the_project_counts_for_the_line_that_called_it() -> None:
    failure = describe_failure(caught(RuntimeError, lambda: torch.nn.Linear(2, 3)(torch.zeros(1, 5))))

    assert failure["where"].startswith("tests/trainable/slot/test_failure.py:")


def test_an_exception_without_words_or_frames_still_says_something() -> None:
    failure = describe_failure(ZeroDivisionError())

    assert (failure["message"], failure["where"]) == ("ZeroDivisionError", "unknown")


def test_out_of_memory_of_every_kind() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(caught(RuntimeError, lambda: torch.empty(2**48)))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_what_breaks_a_device() -> None:
    assert is_device_broken(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert is_device_broken(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not is_device_broken(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_device_broken(torch.AcceleratorError("CUDA error: out of memory"))
    assert not is_device_broken(ValueError("CUDA error: said a user"))
