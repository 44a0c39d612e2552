"""What the machines that the files here name consist of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One type of machine."""

    cpus: int
    memory_gib: float
    gpus: int = 0
    accelerator: str | None = None
    """Ray's name of its GPUs."""


AWS = {
    "m5.xlarge": Machine(4, 16),
    "m5.2xlarge": Machine(8, 32),
    "m5.4xlarge": Machine(16, 64),
    "m6i.xlarge": Machine(4, 16),
    "m6i.2xlarge": Machine(8, 32),
    "m6i.4xlarge": Machine(16, 64),
    "p4d.24xlarge": Machine(96, 1152, 8, "A100"),
    "p4de.24xlarge": Machine(96, 1152, 8, "A100"),
}
"""https://aws.amazon.com/ec2/instance-types/p4/, /m5/ and /m6i/; p4d has GPUs of 40 GB, p4de of 80 GB."""

GCP = {
    "n2-standard-4": Machine(4, 16),
    "n2-standard-8": Machine(8, 32),
    "n2-standard-16": Machine(16, 64),
    "a2-highgpu-1g": Machine(12, 85, 1, "A100"),
    "a2-highgpu-2g": Machine(24, 170, 2, "A100"),
    "a2-highgpu-4g": Machine(48, 340, 4, "A100"),
    "a2-highgpu-8g": Machine(96, 680, 8, "A100"),
    "a2-ultragpu-8g": Machine(96, 1360, 8, "A100"),
}
"""https://cloud.google.com/compute/docs/accelerator-optimized-machines and /general-purpose-machines.

highgpu has GPUs of 40 GB, ultragpu of 80 GB.
"""
