"""`ray up` of the files for AWS, through configuration, launch and set-up of the head, against moto's server.

moto invents public addresses, so nothing may be sent there: `ssh` and `rsync` are stand-ins that write down what they
are given, and the processes can connect to this machine alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.aws_account import main as make_account

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server", reason="needs moto's server (make setup installs it)")

pytestmark = [pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).parent / "stand_in"
REGION = "us-east-1"
RANGE = "198.51.100.0/28"
"""What this test writes into the marked block as the addresses that may use SSH."""
IMAGE = "ami-12345678901234567"

LAUNCH_WORKERS = """
import sys, yaml
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND

config = yaml.safe_load(open(sys.argv[1]))
provider = _get_node_provider(config["provider"], config["cluster_name"])
node = config["available_node_types"]["a100"]["node_config"]
provider.create_node(node, {TAG_RAY_NODE_KIND: NODE_KIND_WORKER}, 1)
"""
"""What the head's autoscaler does with the file that the head was given, when a node is wanted."""


@dataclass(frozen=True)
class Up:
    """One `ray up` and what it left."""

    answer: "subprocess.CompletedProcess[str]"
    calls: list[dict[str, Any]]
    """What the stand-ins were given."""
    given: Path
    """The launcher file with its marked block filled in."""
    folder: Path
    environment: dict[str, str]

    @property
    def commands(self) -> list[str]:
        """What was to be run on the head, in order."""
        return [call["arguments"][-1] for call in self.calls if call["program"] == "ssh"]

    @property
    def refused(self) -> str:
        """Addresses outside this machine that a process tried to reach."""
        path = self.folder / "log.refused"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a shell that is signed in to an empty account, whose ssh and rsync are the stand-ins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        server = moto_server.ThreadedMotoServer("127.0.0.1", port=0)
        server.start()
        host, port = server.get_host_and_port()
        home = tmp_path_factory.mktemp("home")
        settings = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(home / "none"),
            "HOME": str(home),
            "RAY_TMPDIR": str(home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{STAND_IN}{os.pathsep}{os.environ['PATH']}",
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        for program in ("ssh", "rsync"):
            assert shutil.which(program) == str(STAND_IN / program), "the stand-in must be found first"
        yield dict(os.environ)
        server.stop()


def fill_in(name: str, folder: Path) -> Path:
    """A launcher file as its user leaves it: the block filled in, and the group made by cluster/aws_account.py."""
    text = (ROOT / "cluster" / name).read_text(encoding="utf-8").replace("203.0.113.7/32", RANGE)
    text = re.sub(r"resolve:ssm:\S+", IMAGE, text).replace("build/cluster", str(folder / "bundle"))
    (folder / "bundle").mkdir()
    (folder / "bundle" / "README.md").write_text("the project")
    token = Path.home() / ".ray" / "auth_token"
    token.parent.mkdir(exist_ok=True)
    token.write_text("a token")
    path = folder / name
    path.write_text(text, encoding="utf-8")
    assert make_account([str(path)]) == 0
    ec2 = boto3.client("ec2", REGION)
    cluster = yaml.safe_load(text)["cluster_name"]
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [cluster]}])["SecurityGroups"][0]
    path.write_text(text.replace("sg-00000000000000000", group["GroupId"]), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["a100.yaml", "a100-spot.yaml"])
def up(request: pytest.FixtureRequest, account: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Up:
    """`ray up FILE`, as on a laptop."""
    folder = tmp_path_factory.mktemp("up")
    given = fill_in(request.param, folder)
    environment = {
        **account,
        "STAND_IN_LOG": str(folder / "log"),
        "PYTHONPATH": str(STAND_IN / "only_loopback"),
    }
    command = [str(Path(sys.executable).with_name("ray")), "up", "--yes", "--no-config-cache", str(given)]
    answer = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    log = folder / "log"
    calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Up(answer, calls, given, folder, environment)


def instances(up: Up, kind: str) -> list[dict[str, Any]]:
    """The head or the workers of this cluster, as moto recorded them."""
    cluster = yaml.safe_load(up.given.read_text())["cluster_name"]
    wanted = {"tag:ray-cluster-name": cluster, "tag:ray-node-type": kind}
    filters = [{"Name": key, "Values": [value]} for key, value in wanted.items()]
    answer = boto3.client("ec2", REGION).describe_instances(Filters=filters)
    return [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]


def test_the_launcher_gets_through(up: Up) -> None:
    assert up.answer.returncode == 0, up.answer.stdout + up.answer.stderr
    assert "New status" in up.answer.stdout
    assert "up-to-date" in up.answer.stdout
    assert up.refused == ""


def test_the_head_is_what_the_file_says(up: Up) -> None:
    (head,) = instances(up, "head")
    config = yaml.safe_load(up.given.read_text())
    assert head["InstanceType"] == "m6i.2xlarge"
    assert head["ImageId"] == IMAGE
    assert head["IamInstanceProfile"]["Arn"].endswith("/glance-head")
    assert head["KeyName"] == f"ray-autoscaler_{REGION}"
    assert [group["GroupId"] for group in head["SecurityGroups"]] == config["metadata"]["security_groups"]
    assert "InstanceLifecycle" not in head
    assert (Path(up.environment["HOME"]) / ".ssh" / f"ray-autoscaler_{REGION}.pem").stat().st_mode & 0o077 == 0


def test_port_22_is_open_to_the_named_range_and_nothing_else_to_anybody(up: Up) -> None:
    (head,) = instances(up, "head")
    names = [group["GroupId"] for group in head["SecurityGroups"]]
    groups = boto3.client("ec2", REGION).describe_security_groups(GroupIds=names)["SecurityGroups"]
    rules = [rule for group in groups for rule in group["IpPermissions"]]
    from_outside = [
        rule for rule in rules if rule.get("IpRanges") or rule.get("Ipv6Ranges") or rule.get("PrefixListIds")
    ]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in from_outside] == [(22, 22, "tcp")]
    assert [item["CidrIp"] for rule in from_outside for item in rule["IpRanges"]] == [RANGE]
    inside = [pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]]
    assert set(inside) == set(names)


def test_the_head_is_set_up_by_the_commands_of_the_file(up: Up) -> None:
    config = yaml.safe_load(up.given.read_text())
    said = "\n".join(up.commands).replace("'\"'\"'", "'")
    order = [
        "uptime",
        "sudo exportfs -ra",
        "docker pull rayproject/ray:2.60.0-py311-cpu",
        "docker run",
        "pip install --extra-index-url",
        "ray start --head --port=6379",
    ]
    places = [said.find(part) for part in order]
    assert -1 not in places, dict(zip(order, places, strict=True))
    assert places == sorted(places)
    for key in ("initialization_commands", "head_setup_commands"):
        for command in config[key]:
            assert command[:60] in said.replace("'\\''", "'"), command
    assert "--dashboard-host=127.0.0.1" in said
    assert "0.0.0.0" not in said.replace("/0.0.0.0", "")
    assert "nvidia-smi" not in said, "the head has no GPU"


def test_the_project_and_the_key_are_sent_to_the_head(up: Up) -> None:
    sent = [call["arguments"][-2:] for call in up.calls if call["program"] == "rsync"]
    sources = [source for source, _ in sent]
    assert f"{up.folder / 'bundle'}/" in sources
    assert any(source.endswith("/.ssh/ray-autoscaler_us-east-1.pem") for source in sources)
    assert (up.folder / "ray_bootstrap_config.yaml").exists()


def test_workers_are_launched_as_the_file_says(up: Up) -> None:
    """By Ray's own provider, from the file that the head was given."""
    given = str(up.folder / "ray_bootstrap_config.yaml")
    command = [sys.executable, "-c", LAUNCH_WORKERS, given]
    answer = subprocess.run(command, env=up.environment, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    (worker,) = instances(up, "worker")
    assert worker["InstanceType"] == "p4d.24xlarge"
    assert worker["ImageId"] == IMAGE
    assert worker["IamInstanceProfile"]["Arn"].endswith("/glance-worker")
    assert worker.get("InstanceLifecycle") == ("spot" if "spot" in up.given.name else None)
    assert up.refused == ""


def test_nothing_can_leave_this_machine(account: dict[str, str], tmp_path: Path) -> None:
    """The guard itself: 192.0.2.1 is an address that nobody has (RFC 5737)."""
    environment = {**account, "STAND_IN_LOG": str(tmp_path / "log"), "PYTHONPATH": str(STAND_IN / "only_loopback")}
    code = "import socket; socket.create_connection(('192.0.2.1', 22), timeout=5)"
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "only this machine may be reached" in answer.stderr
    assert "192.0.2.1" in (tmp_path / "log.refused").read_text()


def test_the_group_is_mended_when_the_account_is_made_again(up: Up) -> None:
    """A rule that somebody added goes, and the one for SSH stays."""
    ec2 = boto3.client("ec2", REGION)
    (group,) = yaml.safe_load(up.given.read_text())["metadata"]["security_groups"]
    world: dict[str, Any] = {
        "IpProtocol": "tcp",
        "FromPort": 8265,
        "ToPort": 8265,
        "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    }
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[world])
    assert make_account([str(up.given)]) == 0
    rules = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert sorted(item["CidrIp"] for rule in rules for item in rule.get("IpRanges", [])) == [RANGE]


def test_the_profiles_hold_the_rights_and_no_more(up: Up) -> None:
    iam = boto3.client("iam", REGION)
    for name in ("glance-head", "glance-worker"):
        (role,) = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
        assert iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"] == []
        document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName="glance")["PolicyDocument"]
        actions = {action for statement in document["Statement"] for action in statement["Action"]}
        assert ("ec2:RunInstances" in actions) == (name == "glance-head")
        assert "s3:PutObject" in actions
        assert not any(action.endswith(":*") for action in actions)
