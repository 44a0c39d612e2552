"""Which ports a launcher file opens, and to whom: SSH to the addresses of the marked block, and nothing else."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from cluster.commands import commands_of
from cluster.document import Document, Finding, KeyPath

SSH = 22
MOST_ADDRESSES = 2**16
"""A range with more addresses than this is nobody's own network."""

ANYWHERE = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|(?<![\w:])::(?:/0)?(?![\w:])|--bind_all")
PUBLISHED = re.compile(r"(?:^|\s)(?:-p|--publish|-P|--publish-all)[ =]?\S*")


def ssh_ranges(config: dict[str, Any]) -> list[str]:
    """The address ranges that may use SSH, from the marked block."""
    ranges = config.get("metadata", {}).get("ssh_from", [])
    return [str(item) for item in (ranges if isinstance(ranges, list) else [ranges])]


def wrong_ranges(document: Document) -> Iterator[Finding]:
    """The marked block names at least one range, and none that is the whole world."""
    path: KeyPath = ("metadata", "ssh_from")
    ranges = ssh_ranges(document.data)
    if not ranges:
        sentence = "metadata must name in ssh_from the address ranges that may use SSH, such as 203.0.113.7/32."
        yield document.finding(path, sentence)
    for text in ranges:
        try:
            size = ipaddress.ip_network(text).num_addresses
        except ValueError as error:
            yield document.finding(path, f"ssh_from must hold address ranges, but: {error}.")
            continue
        if size > MOST_ADDRESSES:
            sentence = f"ssh_from must hold your own addresses alone, but {text} are {size} addresses."
            yield document.finding(path, sentence)


def open_ports(document: Document) -> Iterator[Finding]:
    """Whatever in the file listens to all addresses, publishes a container's port, or opens a port in a group."""
    for path, command in commands_of(document.data):
        if ANYWHERE.search(command):
            sentence = f"nothing may listen to all addresses: use 127.0.0.1 and `ray dashboard`, but: {command.strip()}"
            yield document.finding(path, sentence)
    docker = document.data.get("docker", {})
    for key in (key for key in docker if key.endswith("run_options")):
        for index, option in enumerate(docker[key]):
            if PUBLISHED.search(str(option)):
                yield document.finding(("docker", key, index), f"a container may publish no port, but: {option}")
    rules = document.data["provider"].get("security_group", {}).get("IpPermissions", [])
    for index, rule in enumerate(rules):
        yield from _wrong_rule(document, ("provider", "security_group", "IpPermissions", index), rule)


def _wrong_rule(document: Document, path: KeyPath, rule: dict[str, Any]) -> Iterator[Finding]:
    ports = (rule.get("FromPort"), rule.get("ToPort"))
    if ports != (SSH, SSH):
        yield document.finding(path, f"no port may be open but 22, but this opens {ports[0]} to {ports[1]}.")
    allowed = [ipaddress.ip_network(text) for text in ssh_ranges(document.data)]
    sources = [*rule.get("IpRanges", []), *rule.get("Ipv6Ranges", [])]
    open_to = [source.get("CidrIp") or source.get("CidrIpv6") for source in sources]
    for text in open_to:
        if ipaddress.ip_network(text) not in allowed:
            yield document.finding(path, f"SSH may be open to {_listed(allowed)} alone (ssh_from), but is to {text}.")


def _listed(ranges: list[Any]) -> str:
    return ", ".join(map(str, ranges)) or "nobody"


def wrong_group(document: Document, path: KeyPath, provider: str) -> Iterator[Finding]:
    """A node without a group or network of its own gets the default one, which is open to every address."""
    node = document.data
    for key in path:
        node = node[key]
    if provider == "aws":
        interfaces = node.get("NetworkInterfaces") or [{}]
        if not node.get("SecurityGroupIds") and not all(item.get("Groups") for item in interfaces):
            sentence = "a node must name its SecurityGroupIds: the group that Ray makes opens port 22 to every address."
            yield document.finding(path, sentence)
    else:
        interfaces = node.get("networkInterfaces") or [{}]
        if any(item.get("subnetwork", "default").endswith("default") for item in interfaces):
            sentence = "a node must name a subnetwork of its own: Google's default one opens port 22 to every address."
            yield document.finding(path, sentence)
