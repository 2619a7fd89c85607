"""deploy/kubernetes: what kustomize makes of it is valid, against Kubernetes' schemas and KEDA's own definition."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.gobuild import Recipe, Workshop, program
from tests.support.require import require

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
KUBERNETES = ("1.29", "1.31", "1.33")
Manifest = dict[str, Any]
_MODULE = "github.com/kedacore/keda/v2"


def _fetch_keda(shop: Workshop) -> None:
    """Take KEDA's definition of a ScaledObject, and the source of its scaler, out of its Go module."""
    (shop.folder / "go.mod").write_text("module syncd-tests\n\ngo 1.21\n")
    found = json.loads(shop.go("mod", "download", "-json", f"{_MODULE}@v2.17.2"))
    for path in ("config/crd/bases/keda.sh_scaledobjects.yaml", "pkg/scalers/nsq_scaler.go"):
        shutil.copyfile(Path(found["Dir"]) / path, shop.programs / Path(path).name)


KEDA = Recipe("keda", "2.17.2", programs=("keda.sh_scaledobjects.yaml", "nsq_scaler.go"), build=_fetch_keda)


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    kubectl = require("kubectl", "kubernetes-client")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, check=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_valid(manifests: list[Manifest], version: str) -> None:
    checked = [each for each in manifests if each["kind"] != "ScaledObject"]
    assert len(checked) >= 10
    for manifest in checked:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_scaler_is_valid_by_kedas_own_definition(manifests: list[Manifest]) -> None:
    definition = yaml.safe_load(Path(program(KEDA, "keda.sh_scaledobjects.yaml")).read_text())
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == "v1alpha1"]
    scaler = one(manifests, "ScaledObject", "worker")
    jsonschema.validate(scaler, schema)
    assert scaler["spec"]["scaleTargetRef"]["name"] == one(manifests, "Deployment", "worker")["metadata"]["name"]
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["type"] == "nsq"
    read = set(re.findall(r"keda:\"name=(\w+)", Path(program(KEDA, "nsq_scaler.go")).read_text()))
    assert set(trigger["metadata"]) <= read


def test_nobody_is_root_but_the_step_that_hands_folders_over(manifests: list[Manifest]) -> None:
    for kind, name in (("DaemonSet", "syncd"), ("Deployment", "worker")):
        pod = one(manifests, kind, name)["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "runAsUser" not in context
            assert container["resources"]["limits"]["memory"]


def test_secrets_are_only_referred_to(manifests: list[Manifest]) -> None:
    assert "Secret" not in {each["kind"] for each in manifests}
    text = json.dumps(manifests)
    assert text.count("secretKeyRef") == 3
    assert "mongodb://" not in text


def test_what_network_policies_allow_is_what_the_readme_says(manifests: list[Manifest]) -> None:
    ports = {}
    for name in ("syncd", "worker"):
        rules = one(manifests, "NetworkPolicy", name)["spec"]["egress"]
        ports[name] = {port["port"] for rule in rules for port in rule["ports"]}
    assert ports == {"syncd": {13445, 4150, 27017}, "worker": {4150, 4151, 4161, 27017}}
    nothing = one(manifests, "NetworkPolicy", "nothing")["spec"]
    assert (nothing["podSelector"], set(nothing["policyTypes"])) == ({}, {"Ingress", "Egress"})
    assert "ingress" not in nothing and "egress" not in nothing


@pytest.mark.parametrize("name", ["syncd", "worker"])
def test_the_configurations_are_those_that_syncd_reads(manifests: list[Manifest], name: str) -> None:
    (config,) = [m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"].startswith(name)]
    tables = tomllib.loads(config["data"]["config.toml"])
    assert tables["host"]["state_dir"] == "/state"
