"""The chart with the real helm, the files of deploy/ with the real Envoy, dashboards against the real metrics."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.stack import PROJECT, find_envoy, http_manager
from extproc.config import load_settings
from extproc.metrics import Metrics

HELM = PROJECT / ".tools" / "bin" / "helm"
CHART = PROJECT / "helm" / "envoy-waf"

EVERYTHING = (
    "istio.enabled=true", "envoyGateway.enabled=true", "workers=3", "serviceMonitor.enabled=true", "prometheusRule.enabled=true",
    "autoscaling.enabled=true", "networkPolicy.enabled=true", "adminTokenSecret=waf-admin", r"rules.own\.conf=SecAction id:1",
)  # fmt: skip


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM.is_file(), "run scripts/get_helm.py"
    return subprocess.run([str(HELM), *arguments], capture_output=True, text=True, check=False)


def render(*values: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) -> document."""
    found = helm("template", "waf", str(CHART), "-n", "prod", *(part for v in values for part in ("--set", v)))
    assert found.returncode == 0, found.stderr
    documents = [document for document in yaml.safe_load_all(found.stdout) if document]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def test_lint() -> None:
    found = helm("lint", "--strict", str(CHART))
    assert found.returncode == 0, found.stdout


def test_the_settings_are_settings(tmp_path: Path) -> None:
    documents = render(*EVERYTHING)
    path = tmp_path / "settings.yaml"
    path.write_text(documents["ConfigMap", "waf-envoy-waf"]["data"]["settings.yaml"])
    settings = load_settings(path)
    assert (settings.workers, settings.mode) == (3, "DetectionOnly")
    assert settings.rules[-1] == "/etc/envoy-waf/rules/own.conf"


def test_ports_of_workers_service_and_container_agree() -> None:
    documents = render(*EVERYTHING)
    service = documents["Service", "waf-envoy-waf"]["spec"]["ports"]
    container = documents["Deployment", "waf-envoy-waf"]["spec"]["template"]["spec"]["containers"][0]
    assert [port["port"] for port in service] == [9002, 9012, 9022, 9003]
    assert [port["containerPort"] for port in container["ports"]] == [9002, 9012, 9022, 9003]
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service} == names


def test_the_pod_has_no_rights() -> None:
    pod = render()["Deployment", "waf-envoy-waf"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    security = pod["containers"][0]["securityContext"]
    assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)


@pytest.mark.parametrize(
    "value", ["workers=0", "replicas=none", "nonsense=1", "settings.listen=0.0.0.0:1", "istio.context=X"]
)
def test_wrong_values_are_refused(value: str) -> None:
    found = helm("template", "waf", str(CHART), "--set", value)
    assert found.returncode != 0
    assert "values don't meet the specifications" in found.stderr


def validate(tmp_path: Path, config: dict[str, Any]) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(config))
    found = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", str(path)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]


def bootstrap_with(filter_config: dict[str, Any], cluster: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((PROJECT / "deploy" / "envoy" / "buffered.yaml").read_text())
    http_manager(config)["http_filters"][0] = filter_config
    config["static_resources"]["clusters"][1]["name"] = cluster
    config["static_resources"]["clusters"][1]["load_assignment"]["cluster_name"] = cluster
    return config


def test_envoy_takes_the_filter_of_the_chart(tmp_path: Path) -> None:
    found = render(*EVERYTHING)["EnvoyFilter", "waf-envoy-waf"]["spec"]["configPatches"][0]["patch"]["value"]
    cluster = found["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]
    assert cluster == "outbound|9002||waf-envoy-waf.prod.svc.cluster.local"
    validate(tmp_path, bootstrap_with(found, cluster))


def test_envoy_takes_the_istio_example(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all((PROJECT / "deploy" / "istio" / "sidecar.yaml").read_text()))
    cluster, http_filter = (patch["patch"]["value"] for patch in documents[1]["spec"]["configPatches"])
    config = bootstrap_with(http_filter, "envoy_waf")
    config["static_resources"]["clusters"][1] = cluster
    validate(tmp_path, config)


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "deploy").glob("*/envoy.yaml")) + sorted((PROJECT / "deploy" / "envoy").glob("*.yaml"))
)
def test_envoy_takes_every_bootstrap(tmp_path: Path, path: Path) -> None:
    validate(tmp_path, yaml.safe_load(path.read_text()))


def test_settings_of_compose() -> None:
    assert load_settings(PROJECT / "deploy" / "compose" / "settings.yaml").listen == "0.0.0.0:9002"


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    known = set()
    for family in Metrics().registry.collect():
        for suffix in ("", "_total", "_bucket", "_sum", "_count"):
            known.add(family.name + suffix)
    texts = [
        (PROJECT / "deploy" / "monitoring" / "grafana-dashboard.json").read_text(),
        (CHART / "alerts.yaml").read_text(),
    ]
    json.loads(texts[0])
    assert yaml.safe_load(texts[1])["groups"]
    asked = {name for text in texts for name in re.findall(r"envoy_waf_[a-z_]+", text)}
    assert len(asked) > 12
    assert asked <= known
