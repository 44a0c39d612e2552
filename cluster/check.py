"""Check files that describe a cluster, before they cost money.

    python cluster/check.py cluster/a100.yaml cluster/kuberay-a100.yaml

Launcher files are held to Ray's own schema and validation, with the defaults that Ray adds to them, and Kubernetes
manifests to the schema of KubeRay's resources. Versions must be those of constraints.txt, no port may be open but SSH
to the addresses of the marked block, and the resources named must be those of the machines. Exit status: 0 and one line
per file where all is well, 2 and a sentence with file and line for everything that is not.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import CommandParser, ConfigError, run_command

if TYPE_CHECKING:
    from cluster.document import Document, Finding

MARK = "---- change for your account"
SECRET = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|(?i:aws_secret_access_key)|BEGIN [A-Z ]*PRIVATE KEY")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = CommandParser(prog="cluster/check.py", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a launcher file or a Kubernetes manifest")
    failed = [path for path in parser.read(argv).files if not _report(path)]
    return 2 if failed else 0


def _report(path: Path) -> bool:
    """Print what there is to say of one file; whether it is fit for use."""
    try:
        kind, findings = check_file(path)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    for finding in sorted(set(findings)):
        print(f"{path}:{finding.line}: {finding.sentence}", file=sys.stderr)
    if not findings:
        print(f"{path}: a {kind} that keeps to all rules")
    return not findings


def check_file(path: Path) -> "tuple[str, list[Finding]]":
    """What kind of file it is, and everything that is wrong with it; raises `ConfigError` where it is no YAML."""
    from cluster.document import Finding, read_documents
    from cluster.kuberay import check_manifest
    from cluster.launcher import check_launcher

    documents = read_documents(path)
    findings = [Finding(line, sentence) for line, sentence in _keys_on_disk(documents[0].text)]
    if "apiVersion" in documents[0].data:
        kind = "Kubernetes manifest"
        findings += [finding for document in documents for finding in check_manifest(document)]
    elif len(documents) == 1:
        kind = "file for Ray's cluster launcher"
        findings += check_launcher(documents[0])
    else:
        raise ConfigError(f"{path} must hold one document for Ray's cluster launcher, but holds {len(documents)}.")
    findings += _marked_block(documents[0])
    return kind, findings


def _marked_block(document: "Document") -> "list[Finding]":
    from cluster.document import Finding

    if MARK in document.text:
        return []
    return [Finding(1, f"the file must begin with a block of what to change, marked by '# {MARK}', but has none.")]


def _keys_on_disk(text: str) -> list[tuple[int, str]]:
    """Lines that hold a secret of AWS or Google."""
    sentence = "no key may stand in a file or on a node: give the nodes an instance profile or a service account."
    return [(number, sentence) for number, line in enumerate(text.splitlines(), start=1) if SECRET.search(line)]


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main())
