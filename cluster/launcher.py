"""What must hold of a file for Ray's cluster launcher (`ray up`)."""

import contextlib
import copy
import io
import logging
from collections.abc import Iterator
from typing import Any

import click
import jsonschema
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.commands import commands_of
from cluster.document import Document, Finding, KeyPath
from cluster.machines import AWS, GCP, Machine
from cluster.pins import wrong_image, wrong_pins
from cluster.ports import open_ports, wrong_group, wrong_ranges

MACHINE_KEYS = {"aws": ("InstanceType", AWS), "gcp": ("machineType", GCP)}
"""Provider -> under which key a node type names its machine, and the machines that are known."""

GIB = 2**30


def check_launcher(document: Document) -> list[Finding]:
    """Everything that is wrong with the file; what Ray itself refuses comes alone."""
    config = document.data
    try:
        prepared = prepare(config)
    except jsonschema.ValidationError as error:
        return [document.finding(_place(error), f"Ray refuses this: {error.message}.")]
    except (ValueError, RuntimeError, NotImplementedError, KeyError, TypeError, click.ClickException) as error:
        return [document.finding(["provider"], f"Ray refuses this: {_told(error)}.")]
    findings = [*_images(document), *_commands(document, prepared), *open_ports(document)]
    if config["provider"]["type"] in MACHINE_KEYS:
        findings += wrong_ranges(document)
        for name in config["available_node_types"]:
            findings += _node_type(document, name)
    return findings


def prepare(config: dict[str, Any]) -> dict[str, Any]:
    """The file as `ray up` reads it: with the provider's defaults, and valid. Raises what Ray raises."""
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
        validate_config(prepared)
    return prepared


def _place(error: jsonschema.ValidationError) -> KeyPath:
    """Where a violation of the schema stands: an unknown key itself, not what holds it."""
    path = list(error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        unknown = [key for key in error.instance if key not in error.schema.get("properties", {})]
        return [*path, *unknown[:1]]
    return path


def _told(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return (str(error).strip() or type(error).__name__).rstrip(".")


def _images(document: Document) -> Iterator[Finding]:
    """The images of head and workers: a node type may have its own."""
    config = document.data
    docker = config.get("docker", {})
    images: list[tuple[KeyPath, bool]] = [(("docker", "head_image"), False), (("docker", "worker_image"), True)]
    if "image" in docker:
        images.append((("docker", "image"), _has_gpus(config)))
    for name in config.get("available_node_types", {}):
        images.append((("available_node_types", name, "docker", "worker_image"), True))
    for path, gpu in images:
        image = _at(config, path)
        sentence = None if image is None else wrong_image(image, gpu=gpu and _has_gpus(config))
        if sentence:
            yield document.finding(path, sentence)


def _has_gpus(config: dict[str, Any]) -> bool:
    return any(kind["resources"].get("GPU") for kind in config.get("available_node_types", {}).values())


def _at(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _commands(document: Document, prepared: dict[str, Any]) -> Iterator[Finding]:
    """What the commands install, and what they check; also those that Ray adds by default."""
    own = dict(commands_of(document.data))
    for path, command in own.items():
        for sentence in wrong_pins(command):
            yield document.finding(path, sentence)
    for path, command in commands_of(prepared):
        if path[0] not in document.data and command not in own.values():
            for sentence in wrong_pins(command):
                yield document.finding(["provider"], f"without its own {path[0]}, the file gets Ray's, and {sentence}")
    setup = [command for path, command in commands_of(document.data) if "worker_setup_commands" in path]
    if _has_gpus(document.data) and not ("nvidia-smi" in " ".join(setup) and "torch.cuda" in " ".join(setup)):
        yield document.finding(
            ["worker_setup_commands"],
            "workers with GPUs must check them in worker_setup_commands (nvidia-smi and torch.cuda.is_available()), so "
            "that a broken node fails in its set-up and not in the middle of a search.",
        )


def _node_type(document: Document, name: str) -> Iterator[Finding]:
    """One kind of node: its machine is known, has what the file names, and is no spot machine where it is the head."""
    config = document.data
    provider = config["provider"]["type"]
    path = ("available_node_types", name)
    key, machines = MACHINE_KEYS[provider]
    node = config["available_node_types"][name]["node_config"]
    machine = machines.get(node.get(key))
    if machine is None:
        sentence = f"{name} must name a known machine as {key} ({', '.join(machines)}), but names {node.get(key)}."
        yield document.finding((*path, "node_config", key), sentence)
        return
    yield from _resources(document, path, node[key], machine, is_head=name == config["head_node_type"])
    yield from wrong_group(document, (*path, "node_config"), provider)
    if name == config["head_node_type"]:
        yield from _head(document, path, machine)
    if provider == "aws" and "IamInstanceProfile" not in node:
        sentence = f"{name} must have an IamInstanceProfile, so that no key has to be on it."
        yield document.finding((*path, "node_config"), sentence)
    if provider == "gcp" and machine.gpus and _at(node, ("scheduling", "onHostMaintenance")) != "TERMINATE":
        sentence = f"{name} has GPUs, so scheduling.onHostMaintenance must be TERMINATE: Google refuses it otherwise."
        yield document.finding((*path, "node_config", "scheduling"), sentence)


def _resources(
    document: Document, path: KeyPath, type_name: str, machine: Machine, *, is_head: bool
) -> Iterator[Finding]:
    """The resources that a kind of node names are those of its machine; a head offers no CPU to trials."""
    expected: dict[str, int] = {"CPU": 0 if is_head else machine.cpus}
    if machine.gpus:
        expected |= {"GPU": machine.gpus, f"accelerator_type:{machine.accelerator}": 1}
    named = _at(document.data, (*path, "resources"))
    for resource in sorted({*expected, *(key for key in named if key != "memory")}):
        if named.get(resource, 0) != expected.get(resource, 0):
            sentence = (
                f"{path[-1]} must name {resource} {expected.get(resource, 0)}, which a {type_name} has"
                f"{' and a head keeps from trials' if is_head else ''}, but names {named.get(resource, 0)}."
            )
            yield document.finding((*path, "resources", resource), sentence)
    if named.get("memory", 0) > machine.memory_gib * GIB:
        sentence = f"{path[-1]} must name no more memory than the {machine.memory_gib:g} GiB of a {type_name}."
        yield document.finding((*path, "resources", "memory"), sentence)


def _head(document: Document, path: KeyPath, machine: Machine) -> Iterator[Finding]:
    """The head runs the search itself, all the time: no GPU that nobody uses, and never on spot."""
    node = _at(document.data, (*path, "node_config"))
    if machine.gpus:
        yield document.finding((*path, "node_config"), "the head must be a machine without GPUs: it runs no trials.")
    scheduling = node.get("scheduling", {})
    spot = (
        _at(node, ("InstanceMarketOptions", "MarketType")) == "spot"
        or bool(scheduling.get("preemptible"))
        or scheduling.get("provisioningModel") == "SPOT"
    )
    if spot:
        key = "scheduling" if scheduling else "InstanceMarketOptions"
        sentence = "the head must never be a spot machine: the search and everything on its disk would go with it."
        yield document.finding((*path, "node_config", key), sentence)
