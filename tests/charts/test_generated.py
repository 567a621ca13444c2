"""What charts/generate makes is committed: the definition in the chart and, where there is helm, install.yaml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEFINITION = ROOT / "operator/logstream_operator/crd.yaml"


def load_install() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text()))


def test_nothing_would_be_made_anew() -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "charts/generate", "--check"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"run charts/generate and commit what it writes: {ended.stdout}{ended.stderr}"


def test_install_has_the_definition_as_it_is() -> None:
    """Also where there is no helm to make it with."""
    (found,) = [document for document in load_install() if document["kind"] == "CustomResourceDefinition"]
    assert found["spec"] == yaml.safe_load(DEFINITION.read_text())["spec"]


def test_install_needs_nothing_but_kubectl() -> None:
    documents = load_install()
    assert documents[0]["kind"] == "Namespace"
    namespaced = [
        document["metadata"].get("namespace")
        for document in documents
        if document["kind"] in ("Deployment", "ServiceAccount")
    ]
    assert namespaced == [documents[0]["metadata"]["name"]] * 2
    assert not [document for document in documents if "helm" in str(document["metadata"]).lower()]
