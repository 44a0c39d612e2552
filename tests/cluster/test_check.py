"""cluster/check.py: the files here pass, and each kind of wrong file is refused with its line."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.check import MARK, check_file, main
from cluster.machines import AWS, GCP
from cluster.pins import pinned, pinned_python, wrong_image, wrong_pins

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "cluster").glob("*.yaml"))


def found(path: Path) -> list[tuple[str, str]]:
    """The text of the line that each finding names, and its sentence."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(lines[finding.line - 1].strip(), finding.sentence) for finding in check_file(path)[1]]


def changed(tmp_path: Path, name: str, old: str, new: str) -> Path:
    text = (ROOT / "cluster" / name).read_text(encoding="utf-8")
    assert old in text, f"{name} no longer holds {old!r}"
    path = tmp_path / name
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_here_passes(path: Path) -> None:
    assert found(path) == []


def test_the_command_prints_a_line_per_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path) for path in FILES]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == len(FILES) == 5
    assert said.err == ""


LAUNCHER = [
    # Ray's schema and validation, with the provider's defaults
    ("idle_timeout_minutes: 10", "idle_timeout: 10", "idle_timeout: 10", "Ray refuses this: Additional properties"),
    ("max_workers: *most_workers\nup", "max_workers: many\nup", "max_workers: many", "is not of type 'integer'"),
    ("head_node_type: head", "head_node_type: boss", "provider:", "must be one of `available_node_types`"),
    ("    type: aws", "    type: azur", "provider:", "Unsupported node provider"),
    ("setup_commands: []", "", "provider:", "without its own setup_commands, the file gets Ray's"),
    ("provider:\n    type: aws", "supplier:\n    type: aws", "metadata:", "'provider' is missing"),
    # versions
    ("2.60.0-py311-cpu", "2.59.0-py311-cpu", "head_image:", "the Ray of constraints.txt, 2.60.0"),
    ("2.60.0-py311-gpu", "2.60.0-py312-gpu", "worker_image:", "must hold Python 3.11"),
    ("2.60.0-py311-gpu", "latest-gpu", "worker_image:", "tag must name its versions"),
    ("2.60.0-py311-gpu", "2.60.0-py311-cpu", "worker_image:", "a node with GPUs must have an image for them"),
    ("pip install -c constraints.txt -e .", "pip install -e .", "- cd /home/ray", "at the versions of constraints.txt"),
    (
        "pip install -c constraints.txt -e .",
        "pip install -c constraints.txt torch==2.1.0",
        "- cd",
        "torch must be 2.13",
    ),
    # ports
    ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "- ulimit", "nothing may listen to all addresses"),
    ("--ulimit nofile=65536:65536", "-p 8265:8265", "- -p 8265", "a container may publish no port"),
    ("203.0.113.7/32", "0.0.0.0/0", "ssh_from: [0.0.0.0/0]", "ssh_from must hold your own addresses alone"),
    ("203.0.113.7/32", "203.0.113.7/24", "ssh_from:", "has host bits set"),
    ("ssh_from: [203.0.113.7/32]", "ssh_from: []", "ssh_from: []", "must name in ssh_from"),
    ("SecurityGroupIds: *security_groups", "EbsOptimized: true", "node_config: &machine", "SecurityGroupIds"),
    (
        "    region: *region\n",
        "    region: *region\n    security_group:\n        IpPermissions:\n"
        "            - {FromPort: 8265, ToPort: 8265, IpRanges: [{CidrIp: 203.0.113.7/32}]}\n",
        "- {FromPort: 8265",
        "no port may be open but 22",
    ),
    (
        "    region: *region\n",
        "    region: *region\n    security_group:\n        IpPermissions:\n"
        "            - {FromPort: 22, ToPort: 22, IpRanges: [{CidrIp: 0.0.0.0/0}]}\n",
        "- {FromPort: 22",
        "SSH may be open to 203.0.113.7/32 alone",
    ),
    # machines
    (
        "&worker_type p4d.24xlarge",
        "&worker_type p4d.48xlarge",
        "worker_type: &worker_type",
        "must name a known machine",
    ),
    ("CPU: 96, GPU: 8", "CPU: 96, GPU: 4", "resources: {CPU: 96", "must name GPU 8, which a p4d.24xlarge has"),
    ("CPU: 96, GPU: 8", "CPU: 192, GPU: 8", "resources: {CPU: 192", "must name CPU 96"),
    ('"accelerator_type:A100": 1', '"accelerator_type:H100": 1', "resources:", "accelerator_type:A100 1"),
    ("GPU: 8,", "GPU: 8, memory: 2000000000000,", "resources:", "no more memory than the 1152 GiB"),
    ("resources: {CPU: 0}", "resources: {CPU: 8}", "resources: {CPU: 8}", "must name CPU 0"),
    (
        "InstanceType: m6i.2xlarge",
        "InstanceType: p4d.24xlarge",
        "node_config:",
        "the head must be a machine without GPUs",
    ),
    (
        "InstanceType: m6i.2xlarge",
        "InstanceType: m6i.2xlarge\n            InstanceMarketOptions: {MarketType: spot}",
        "InstanceMarketOptions:",
        "the head must never be a spot machine",
    ),
    ("IamInstanceProfile: *head_profile", "EbsOptimized: true", "node_config: &machine", "IamInstanceProfile"),
    # what the house asks for
    ("nvidia-smi --query", "echo --query", "worker_setup_commands:", "must check them in worker_setup_commands"),
    ("---- change for your account", "---- settings", "# Glance on AWS", "a block of what to change"),
    ("metadata:\n", "metadata:\n    aws_secret_access_key: abc\n", "aws_secret", "no key may stand in a file"),
]

GOOGLE = [
    (
        "scheduling: {onHostMaintenance: TERMINATE,",
        "scheduling: {",
        "scheduling:",
        "onHostMaintenance must be TERMINATE",
    ),
    ("subnetworks/glance", "subnetworks/default", "node_config: &machine", "a subnetwork of its own"),
    ("machineType: n2-standard-8", "machineType: a2-highgpu-1g", "node_config:", "the head must be a machine without"),
    (
        "machineType: n2-standard-8",
        "machineType: n2-standard-8\n            scheduling: {provisioningModel: SPOT}",
        "scheduling: {prov",
        "never be a spot",
    ),
]

KUBERNETES = [
    ("maxReplicas: 4", "maximumReplicas: 4", "maximumReplicas: 4", "KubeRay's schema refuses this"),
    ("maxReplicas: 4", "maxReplicas: four", "maxReplicas: four", "is not of type 'integer'"),
    ("upscalingMode: Default", "upscalingMode: Slow", "upscalingMode: Slow", "is not one of"),
    ("minReplicas: 0", "minReplicas: 5", "maxReplicas: 4", "maxReplicas must be 5 or more"),
    ("rayVersion: 2.60.0", "rayVersion: 2.50.0", "rayVersion: 2.50.0", "the Ray of constraints.txt, 2.60.0"),
    ("glance:2.60.0-py311-gpu", "glance:first", "glance/image:", "tag must name its versions"),
    ("glance:2.60.0-py311-gpu", "glance:2.60.0-py311-cpu", "glance/image:", "an image for them"),
    ("serviceType: ClusterIP", "serviceType: LoadBalancer", "serviceType: LoadBalancer", "must be ClusterIP"),
    ("serviceType: ClusterIP", "enableIngress: true", "enableIngress: true", "no ingress"),
    ("restartPolicy: Never", "hostNetwork: true", "hostNetwork: true", "all its ports are open"),
    (
        "workingDir: /home/ray/glance",
        "ports: [{containerPort: 8265, hostPort: 8265}]",
        "ports: [",
        "no port of a host may be open",
    ),
    ('num-cpus: "0"', 'num-cpus: "8"', "rayStartParams:", "keep its CPUs from trials"),
    (
        "restartPolicy: Never",
        'nodeSelector: {cloud.google.com/gke-spot: "true"}',
        "nodeSelector:",
        "never be on a spot node",
    ),
    ("cpu: 88", "cpu: 128", "limits: {cpu: 128", "has 96 of cpu"),
    ("memory: 640Gi", "memory: 1200Gi", "limits: {cpu: 88, memory: 1200Gi", "of memory"),
    ("memory: 640Gi, nvidia.com/gpu: 8", "memory: 640Gi, nvidia.com/gpu: 4", "limits: {cpu: 88", "all 8 GPUs"),
    ("&worker_type p4d.24xlarge", "&worker_type big", "glance/worker-type:", "must name a known machine"),
    ("nvidia-smi --query", "echo --query", "spec:", "must check them first"),
    ("entrypoint: >-", "entrypoints: >-", "entrypoints:", "KubeRay's schema refuses this"),
    ("K8sJobMode", "ShellMode", "submissionMode: ShellMode", "is not one of"),
]


WRONG = [
    (name, *case)
    for name, cases in {"a100.yaml": LAUNCHER, "gcp-a100.yaml": GOOGLE, "kuberay-a100.yaml": KUBERNETES}.items()
    for case in cases
]


@pytest.mark.parametrize(("name", "old", "new", "line", "sentence"), WRONG, ids=[f"{c[0]}: {c[4]}" for c in WRONG])
def test_a_wrong_file_is_refused_with_its_line(
    tmp_path: Path, name: str, old: str, new: str, line: str, sentence: str
) -> None:
    findings = found(changed(tmp_path, name, old, new))
    assert any(text.startswith(line) and sentence in said for text, said in findings), findings


def test_a_wrong_file_ends_with_status_2_and_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed(tmp_path, "a100.yaml", "idle_timeout_minutes: 10", "idle_timeout: 10")
    line = path.read_text(encoding="utf-8").splitlines().index("idle_timeout: 10") + 1
    assert main([str(ROOT / "cluster" / "on-prem.yaml"), str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"{path}:{line}: Ray refuses this")
    assert "on-prem.yaml" in said.out


@pytest.mark.parametrize("text", ["a: [1\n", "", "- 1\n", "a: 1\n---\nb: 2\n", "a: &x\n b: *y\n"])
def test_a_file_that_is_no_cluster_ends_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert main([str(path)]) == 2
    assert "error: " in (said := capsys.readouterr().err)
    assert "Traceback" not in said


def test_a_missing_file_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "must be a readable file" in capsys.readouterr().err


def test_it_runs_as_a_script_from_anywhere(tmp_path: Path) -> None:
    script = str(ROOT / "cluster" / "check.py")
    command = [sys.executable, script, str(ROOT / "cluster" / "on-prem.yaml")]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_has_one_marked_block_before_everything_else(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(MARK) == 1
    before = text[: text.index(MARK)].splitlines()
    assert len(before) < 12


def test_the_pinned_python_is_the_one_of_the_images() -> None:
    assert f"rayproject/ray:{pinned('ray')}-py{pinned_python().replace('.', '')}-gpu" in (
        ROOT / "cluster" / "Dockerfile"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("platform", ["gpu", "cu128", "cu12.8.1-cudnn"])
def test_an_image_may_name_its_cuda(platform: str) -> None:
    assert wrong_image(f"rayproject/ray:{pinned('ray')}-py311-{platform}", gpu=True) is None


def test_a_command_that_installs_nothing_is_left_alone() -> None:
    assert list(wrong_pins("pip list && echo torch==1.0")) == []


def test_the_spot_file_is_the_other_one_but_for_spot() -> None:
    plain, spot = (yaml.safe_load((ROOT / "cluster" / name).read_text()) for name in ("a100.yaml", "a100-spot.yaml"))
    market = spot["available_node_types"]["a100"]["node_config"].pop("InstanceMarketOptions")
    assert market["MarketType"] == "spot"
    for config in (plain, spot):
        for key in ("metadata", "cluster_name"):
            config.pop(key)
        config["provider"].pop("availability_zone")
    assert spot == plain


def test_the_manifest_fits_both_machines_that_it_names() -> None:
    for machine in (AWS["p4d.24xlarge"], GCP["a2-highgpu-8g"]):
        assert machine.cpus >= 88
        assert machine.memory_gib >= 640
