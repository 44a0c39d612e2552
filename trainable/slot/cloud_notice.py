"""What a cloud tells a machine that it will take back: AWS two minutes before, Google Cloud half a minute.

Only the machine itself is asked, at the address where its cloud's metadata server answers; what the firmware says of
the maker tells whether there is one, so that on other machines nothing is sent. `AWS_EC2_METADATA_SERVICE_ENDPOINT`,
`AWS_EC2_METADATA_DISABLED` and `GCE_METADATA_HOST` mean what they mean to those clouds' own libraries.
"""

import datetime
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path("/sys/class/dmi/id/sys_vendor")
AWS, GOOGLE = "Amazon EC2", "Google"
ANSWER_SECONDS = 2.0
TOKEN_SECONDS = 300

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Taken:
    """The machine will be taken back."""

    reason: str
    deadline: float | None = None
    """When, in Unix seconds; None where the cloud does not say."""


def find_cloud(vendor_file: Path = VENDOR) -> Callable[[], Taken | None] | None:
    """What asks this machine's cloud whether it takes the machine back; None where there is no cloud to ask.

    What it returns raises `OSError` where the metadata server does not answer.
    """
    vendor = vendor_file.read_text(encoding="utf-8").strip() if vendor_file.exists() else ""
    environment = os.environ
    endpoint = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
    disabled = environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if (endpoint or vendor == AWS) and not disabled:
        return lambda: _ask_aws((endpoint or "http://169.254.169.254").rstrip("/"))
    host = environment.get("GCE_METADATA_HOST", "")
    if host or vendor == GOOGLE:
        return lambda: _ask_google(f"http://{host or 'metadata.google.internal'}")
    return None


def _ask_aws(endpoint: str) -> Taken | None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html"""
    wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
    token = _text(f"{endpoint}/latest/api/token", wanted, method="PUT")
    headers = {"X-aws-ec2-metadata-token": token} if token else {}
    action = _text(f"{endpoint}/latest/meta-data/spot/instance-action", headers)
    if action is None:
        return None
    try:
        told = json.loads(action)
        time = datetime.datetime.fromisoformat(told["time"])
        return Taken(f"AWS will {told['action']} its instance at {told['time']}", time.timestamp())
    except (ValueError, KeyError, TypeError):
        return Taken(f"AWS will take its instance back: {action[:200]}")


def _ask_google(endpoint: str) -> Taken | None:
    """https://cloud.google.com/compute/docs/instances/create-use-preemptible#detecting_if_an_instance_was_preempted"""
    answer = _text(f"{endpoint}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return Taken("Google Cloud takes its instance back") if answer == "TRUE" else None


def _text(url: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """What the server answers; None where it knows nothing of it."""
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with _direct.open(request, timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        error.close()
        return None
