"""Make what a launcher file for AWS needs in your account, once: a security group and two instance profiles.

    python cluster/aws_account.py cluster/a100.yaml

The group lets the address ranges of the marked block use SSH, and its own nodes everything; no other rule stays in it.
The head's profile may start and stop nodes and give them the workers' profile; both may use the bucket. Credentials
come from boto3's usual chain. It may be run again, after a change of the block for example. Exit status: 0, or 2 where
the file or the account is not fit for it.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from trainable.errors import CommandParser, ConfigError, run_command

SSH = 22
VERSION = "2012-10-17"
"""Of the language of AWS's policies."""
NODES = [
    *("ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "ec2:DescribeInstances", "ec2:DescribeImages"),
    *("ec2:DescribeInstanceTypes", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeKeyPairs"),
    *("ec2:DescribeAvailabilityZones", "ssm:GetParameters"),
]
"""What the head does to start and stop nodes; `ssm:GetParameters` looks up the machine image."""


@dataclass(frozen=True)
class Account:
    """What the marked block of a launcher file says of an account."""

    name: str
    region: str
    ssh_from: list[str]
    bucket: str
    head_profile: str
    worker_profile: str


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = CommandParser(prog="cluster/aws_account.py", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="a launcher file for AWS, its marked block filled in")
    path = parser.read(argv).file
    account = read_account(path)
    try:
        group = make_group(account)
        worker = make_profile(account, account.worker_profile, worker_rights(account))
        make_profile(account, account.head_profile, head_rights(account, worker))
    except (BotoCoreError, ClientError) as error:
        raise ConfigError(f"the account must allow this in {account.region}, but AWS says: {error}") from error
    print(f"{group} lets {', '.join(account.ssh_from)} use SSH, and nobody anything else.")
    print(f"{account.head_profile} and {account.worker_profile} may use the bucket {account.bucket}.")
    print(f"Write into the marked block of {path}:\n    security_groups: &security_groups [{group}]")
    return 0


def read_account(path: Path) -> Account:
    """The marked block of a launcher file that keeps to all rules; raises `ConfigError`."""
    from cluster.check import check_file
    from cluster.document import read_documents

    findings = check_file(path)[1]
    if findings:
        raise ConfigError(f"{path}:{findings[0].line}: {findings[0].sentence}")
    config = read_documents(path)[0].data
    if config.get("provider", {}).get("type") != "aws":
        raise ConfigError(f"{path} must be a launcher file for AWS.")
    block = config["metadata"]
    missing = [name for name in ("bucket", "head_profile", "worker_profile") if name not in block]
    if missing:
        raise ConfigError(f"the marked block of {path} must name {', '.join(missing)}.")
    return Account(
        name=config["cluster_name"],
        region=config["provider"]["region"],
        ssh_from=list(block["ssh_from"]),
        bucket=block["bucket"],
        head_profile=block["head_profile"]["Name"],
        worker_profile=block["worker_profile"]["Name"],
    )


def make_group(account: Account) -> str:
    """The id of the group of this name in the default network, with exactly the rules that it shall have."""
    ec2 = boto3.client("ec2", account.region)
    networks = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not networks:
        raise ConfigError(f"the account must have a default VPC in {account.region} (aws ec2 create-default-vpc).")
    network = networks[0]["VpcId"]
    wanted = {"group-name": account.name, "vpc-id": network}
    filters = [{"Name": key, "Values": [value]} for key, value in wanted.items()]
    groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    if groups:
        group, rules = groups[0]["GroupId"], groups[0]["IpPermissions"]
    else:
        made = ec2.create_security_group(GroupName=account.name, Description="Glance nodes", VpcId=network)
        group, rules = made["GroupId"], []
    if rules:
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=group_rules(group, account.ssh_from))
    return str(group)


def group_rules(group: str, ssh_from: list[str]) -> list[dict[str, Any]]:
    """SSH from the ranges, everything from the group itself."""
    ssh: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH}
    ssh["IpRanges"] = [{"CidrIp": text} for text in ssh_from if ":" not in text]
    ssh["Ipv6Ranges"] = [{"CidrIpv6": text} for text in ssh_from if ":" in text]
    return [ssh, {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]


def worker_rights(account: Account) -> list[dict[str, Any]]:
    """Reading and writing the bucket."""
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{account.bucket}"},
        {"Effect": "Allow", "Action": objects, "Resource": f"arn:aws:s3:::{account.bucket}/*"},
    ]


def head_rights(account: Account, worker_role: str) -> list[dict[str, Any]]:
    """What a worker may do, and to start and stop nodes that have the workers' role."""
    return [
        *worker_rights(account),
        {"Effect": "Allow", "Action": NODES, "Resource": "*"},
        {"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": worker_role},
    ]


def make_profile(account: Account, name: str, rights: list[dict[str, Any]]) -> str:
    """An instance profile with a role of the same name that has exactly these rights; returns the role's ARN."""
    iam = boto3.client("iam", account.region)
    assumed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
    trust = json.dumps({"Version": VERSION, "Statement": [assumed]})
    _unless_there(lambda: iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust))
    policy = json.dumps({"Version": VERSION, "Statement": rights})
    iam.put_role_policy(RoleName=name, PolicyName="glance", PolicyDocument=policy)
    _unless_there(lambda: iam.create_instance_profile(InstanceProfileName=name))
    if not iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def _unless_there(make: Callable[[], object]) -> None:
    try:
        make()
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityAlreadyExists":
            raise


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main())
