"""What must hold of a Kubernetes manifest for KubeRay."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from cluster.document import Document, Finding, KeyPath
from cluster.machines import AWS, GCP, Machine
from cluster.pins import pinned, wrong_image

SCHEMA = Path(__file__).parent / "schemas" / "kuberay.yaml"
GPU = "nvidia.com/gpu"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
SPOT = ({"eks.amazonaws.com/capacityType": "SPOT"}, {"cloud.google.com/gke-spot": "true"})
"""Labels of spot nodes, on EKS and GKE."""
UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def check_manifest(document: Document) -> list[Finding]:
    """Everything that is wrong with one document; what the schema refuses comes alone."""
    errors = list(_validator().iter_errors(document.data))
    if errors:
        return [finding for error in errors for finding in _refused(document, error)]
    cluster: tuple[str, ...] = ("spec",) if document.data["kind"] == "RayCluster" else ("spec", "rayClusterSpec")
    spec = document.data["spec"] if len(cluster) == 1 else document.data["spec"].get("rayClusterSpec")
    if spec is None:
        return []
    findings = [*_version(document, cluster, spec), *_head(document, cluster, spec)]
    for index, group in enumerate(spec.get("workerGroupSpecs", [])):
        path: KeyPath = (*cluster, "workerGroupSpecs", index)
        findings += _pods(document, (*path, "template", "spec"), group["template"]["spec"])
        if group["minReplicas"] > group["maxReplicas"]:
            sentence = f"maxReplicas must be {group['minReplicas']} or more, as minReplicas is."
            findings.append(document.finding((*path, "maxReplicas"), sentence))
    return findings


@cache
def _validator() -> Any:
    return jsonschema.Draft7Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))


def _refused(document: Document, error: jsonschema.ValidationError) -> Iterator[Finding]:
    """A violation of the schema, at the unknown key itself where it is one."""
    path = list(error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        path += [key for key in error.instance if key not in error.schema.get("properties", {})][:1]
    yield document.finding(path, f"KubeRay's schema refuses this: {error.message}.")


def _version(document: Document, path: KeyPath, spec: dict[str, Any]) -> Iterator[Finding]:
    if spec.get("rayVersion") != pinned("ray"):
        sentence = f"rayVersion must be the Ray of constraints.txt, {pinned('ray')}, but is {spec.get('rayVersion')}."
        yield document.finding((*path, "rayVersion"), sentence)


def _head(document: Document, cluster: KeyPath, spec: dict[str, Any]) -> Iterator[Finding]:
    """The head is reached by port forwarding alone, runs no trials, and is on no spot node."""
    head, path = spec["headGroupSpec"], (*cluster, "headGroupSpec")
    if head.get("serviceType", "ClusterIP") != "ClusterIP":
        sentence = f"the head's service must be ClusterIP (`kubectl port-forward`), but is {head['serviceType']}."
        yield document.finding((*path, "serviceType"), sentence)
    if head.get("enableIngress"):
        yield document.finding((*path, "enableIngress"), "the head may have no ingress: use `kubectl port-forward`.")
    if head.get("rayStartParams", {}).get("num-cpus") != "0":
        sentence = 'the head must keep its CPUs from trials: rayStartParams must have num-cpus: "0".'
        yield document.finding((*path, "rayStartParams"), sentence)
    pod, pod_path = head["template"]["spec"], (*path, "template", "spec")
    selector = pod.get("nodeSelector", {})
    if any(label.items() <= selector.items() for label in SPOT):
        sentence = "the head must never be on a spot node: the search would go with it."
        yield document.finding((*pod_path, "nodeSelector"), sentence)
    if any(_limit(container, GPU) for container in pod["containers"]):
        yield document.finding(pod_path, "the head must ask for no GPU: it runs no trials.")
    yield from _pods(document, pod_path, pod)


def _pods(document: Document, path: KeyPath, pod: dict[str, Any]) -> Iterator[Finding]:
    """The containers of one kind of pod: images, ports, and whether they fit the machine that is named."""
    if pod.get("hostNetwork"):
        yield document.finding((*path, "hostNetwork"), "a pod may not use its host's network: all its ports are open.")
    gpu = any(_limit(container, GPU) for container in pod["containers"])
    for key in ("initContainers", "containers"):
        for index, container in enumerate(pod.get(key, [])):
            place = (*path, key, index)
            sentence = wrong_image(container["image"], gpu=gpu)
            if sentence:
                yield document.finding((*place, "image"), sentence)
            for number, port in enumerate(container.get("ports", [])):
                if "hostPort" in port:
                    yield document.finding((*place, "ports", number, "hostPort"), "no port of a host may be open.")
    if gpu and not _checks_gpus(pod):
        sentence = "pods with GPUs must check them first, in an init container (nvidia-smi and torch.cuda)."
        yield document.finding(path, sentence)
    machine = {**AWS, **GCP}.get(pod.get("nodeSelector", {}).get(INSTANCE_TYPE, ""))
    if gpu and machine is None:
        sentence = f"pods with GPUs must name a known machine in nodeSelector as {INSTANCE_TYPE}."
        yield document.finding((*path, "nodeSelector", INSTANCE_TYPE), sentence)
    if machine is not None:
        yield from _fits(document, path, pod, machine)


def _checks_gpus(pod: dict[str, Any]) -> bool:
    first = pod.get("initContainers", [])
    said = " ".join(word for container in first for key in ("command", "args") for word in container.get(key, []))
    return "nvidia-smi" in said and "torch.cuda" in said


def _fits(document: Document, path: KeyPath, pod: dict[str, Any], machine: Machine) -> Iterator[Finding]:
    """What the pod's containers ask for is no more than the machine has, and all its GPUs."""
    asked = {name: sum(_limit(container, name) for container in pod["containers"]) for name in ("cpu", "memory", GPU)}
    has = {"cpu": machine.cpus, "memory": machine.memory_gib * 2**30, GPU: machine.gpus}
    name_of = pod["nodeSelector"][INSTANCE_TYPE]
    for resource in ("cpu", "memory"):
        if asked[resource] > has[resource]:
            sentence = f"a {name_of} has {has[resource]:g} of {resource}, but the pod asks for {asked[resource]:g}."
            yield document.finding((*path, "containers", 0, "resources", "limits", resource), sentence)
    if asked[GPU] != has[GPU]:
        sentence = f"a pod must take all {has[GPU]} GPUs of a {name_of}, but takes {asked[GPU]:g}."
        yield document.finding((*path, "containers", 0, "resources", "limits", GPU), sentence)


def _limit(container: dict[str, Any], resource: str) -> float:
    """How much of a resource a container may use; 0 where it names none."""
    amount = container.get("resources", {}).get("limits", {}).get(resource, 0)
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(amount))
    return float(match[1]) * UNITS[match[2]] if match else 0.0
