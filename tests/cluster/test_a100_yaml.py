"""cluster/a100.yaml: Ray's own validation, and agreement with the pinned versions. Nothing is launched."""

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "cluster" / "a100.yaml"

INSTANCES = {"m6i.2xlarge": (8, 0), "p4d.24xlarge": (96, 8), "p4de.24xlarge": (96, 8)}
"""AWS instance type -> (vCPUs, GPUs): https://aws.amazon.com/ec2/instance-types/p4/ and /m6i/."""


@pytest.fixture
def config() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return document


def pinned(package: str) -> str:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{package}==(\S+)$", text, re.MULTILINE)
    assert match, f"constraints.txt pins no {package}"
    return match[1]


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert prepared["available_node_types"]["a100"]["min_workers"] == 0
    assert prepared["available_node_types"]["a100"]["max_workers"] == prepared["max_workers"] > 0


def test_ray_refuses_an_unknown_key(config: dict[str, Any]) -> None:
    config["idle_timeout"] = 5
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(config))


def test_the_images_hold_the_pinned_ray(config: dict[str, Any]) -> None:
    for role, platform in (("head", "cpu"), ("worker", "gpu")):
        assert config["docker"][f"{role}_image"] == f"rayproject/ray:{pinned('ray')}-py311-{platform}"


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_node_installs_the_project_at_its_pinned_versions(config: dict[str, Any], role: str) -> None:
    folder = next(iter(config["file_mounts"]))
    commands = prepare_config(config)[f"{role}_setup_commands"]
    assert any(re.fullmatch(rf"cd {folder} && pip install .*-c constraints\.txt -e \.", line) for line in commands)


def test_the_named_resources_are_the_instance_types(config: dict[str, Any]) -> None:
    for name, node in config["available_node_types"].items():
        cpus, gpus = INSTANCES[node["node_config"]["InstanceType"]]
        expected = {"CPU": 0} if name == "head" else {"CPU": cpus, "GPU": gpus, "accelerator_type:A100": 1}
        assert node["resources"] == expected, name
    assert config["available_node_types"]["a100"]["node_config"]["InstanceType"] == "p4d.24xlarge"


def test_the_gpu_check_expects_the_gpus_of_the_node(config: dict[str, Any]) -> None:
    gpus = config["available_node_types"]["a100"]["resources"]["GPU"]
    commands = config["worker_setup_commands"]
    assert any(line.startswith("nvidia-smi") for line in commands)
    check = next(line for line in commands if "torch.cuda.is_available()" in line)
    assert f"found == {gpus} " in check
    assert f"must see {gpus} GPUs" in check


def test_the_gpu_check_fails_loudly_where_there_is_none(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = next(line for line in config["worker_setup_commands"] if "torch.cuda.is_available()" in line)
    code = check.removeprefix("python -c '").removesuffix("'")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="must see 8 GPUs on this node, but sees 0"):
        exec(compile(code, str(FILE), "exec"), {})


def test_the_gpu_check_passes_where_all_are_seen(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check = next(line for line in config["worker_setup_commands"] if "torch.cuda.is_available()" in line)
    code = check.removeprefix("python -c '").removesuffix("'")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    with pytest.raises(SystemExit) as ended:
        exec(compile(code, str(FILE), "exec"), {})
    assert ended.value.code is None


def shell_commands(config: dict[str, Any]) -> list[str]:
    keys = [key for key in config if key.endswith("_commands")]
    nodes = config["available_node_types"].values()
    return [line for holder in (config, *nodes) for key in keys for line in holder.get(key, [])]


def test_every_command_is_bash(config: dict[str, Any]) -> None:
    commands = shell_commands(config)
    assert len(commands) > 10
    for command in commands:
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, command


def test_nodes_have_a_profile_and_no_key(config: dict[str, Any]) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert not re.search(r"AKIA|aws_secret|aws_access_key|AWS_SECRET|ssh_private_key", text)
    for node in config["available_node_types"].values():
        assert node["node_config"]["IamInstanceProfile"]


def test_the_head_is_not_a_gpu_machine_and_no_node_is_open_to_the_world(config: dict[str, Any]) -> None:
    assert INSTANCES[config["available_node_types"]["head"]["node_config"]["InstanceType"]][1] == 0
    assert "0.0.0.0" not in FILE.read_text(encoding="utf-8")
    for node in config["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"], "without its own group, Ray opens port 22 to every address"


def test_everything_to_change_stands_once_in_the_marked_block(config: dict[str, Any]) -> None:
    block, rest = re.split(r"\n# -{20,}\n", FILE.read_text(encoding="utf-8"), maxsplit=1)
    assert "# ---- change for your account ---" in block
    names = re.findall(r"&(\w+) ", block)
    assert {*names, "ssh_from", "bucket"} == config["metadata"].keys()
    for name in names:
        assert f"*{name}\n" in rest, f"{name} is set in the block but used nowhere"
    assert not re.search(r"us-east|sg-0|p4d", rest)
