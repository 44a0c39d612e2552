"""cluster/aws_account.py: what it makes of a marked block, without an account; test_ray_up_aws.py has it make it."""

from pathlib import Path

import pytest

from cluster.aws_account import group_rules, head_rights, main, read_account

ROOT = Path(__file__).resolve().parents[2]


def test_the_block_is_read() -> None:
    account = read_account(ROOT / "cluster" / "a100.yaml")
    assert (account.name, account.region) == ("glance", "us-east-1")
    assert account.ssh_from == ["203.0.113.7/32"]
    assert (account.head_profile, account.worker_profile) == ("glance-head", "glance-worker")


def test_ranges_of_both_kinds_may_use_ssh_and_nothing_else() -> None:
    ssh, inside = group_rules("sg-1", ["203.0.113.7/32", "2001:db8::/64"])
    assert (ssh["FromPort"], ssh["ToPort"]) == (22, 22)
    assert ssh["IpRanges"] == [{"CidrIp": "203.0.113.7/32"}]
    assert ssh["Ipv6Ranges"] == [{"CidrIpv6": "2001:db8::/64"}]
    assert inside["UserIdGroupPairs"] == [{"GroupId": "sg-1"}]
    assert "IpRanges" not in inside


def test_the_head_passes_on_the_workers_role_alone() -> None:
    rights = head_rights(read_account(ROOT / "cluster" / "a100.yaml"), "arn:aws:iam::1:role/glance-worker")
    passing = [statement for statement in rights if "iam:PassRole" in statement["Action"]]
    assert [statement["Resource"] for statement in passing] == ["arn:aws:iam::1:role/glance-worker"]


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("a100.yaml", "203.0.113.7/32", "0.0.0.0/0", "your own addresses alone"),
        ("a100.yaml", "bucket: my-glance-bucket", "note: none", "must name bucket"),
        ("gcp-a100.yaml", "", "", "must be a launcher file for AWS"),
    ],
)
def test_a_file_that_is_not_fit_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str, sentence: str
) -> None:
    path = tmp_path / name
    path.write_text((ROOT / "cluster" / name).read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.out == ""
