"""The chart with the real helm, the files of deploy/ with the real Envoy, dashboards against the real metrics."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.stack import PROJECT, find_envoy, http_manager
from extproc.config import Settings
from extproc.envoy_config.notes import notes_of_files
from extproc.loading import load_settings
from extproc.metrics import Metrics
from extproc.policies import compile_policies
from extproc.rulesets import RuleSets
from extproc.workers_metrics import WorkersMetrics

PLAIN = {"nodeSelector", "affinity", "podAnnotations", "resources"}
"""Values that Kubernetes checks."""

HELM = PROJECT / ".tools" / "bin" / "helm"
CHART = PROJECT / "helm" / "envoy-waf"

EVERYTHING = (
    "istio.enabled=true", "envoyGateway.enabled=true", "serviceMonitor.enabled=true", "prometheusRule.enabled=true",
    "autoscaling.enabled=true", "networkPolicy.enabled=true", "networkPolicy.envoySelector.matchLabels.app=envoy",
    "adminTokenSecret=waf-admin", r"rules.own\.conf=SecAction id:1", r"rules.bad\.data=x",
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
    assert (settings.workers, settings.mode) == (1, "DetectionOnly")
    own = "/etc/envoy-waf/rules/own.conf"
    assert settings.rules == [*RuleSets(load_settings(crs_root=tmp_path)).default_rules(), own]


def test_the_schema_knows_every_setting_but_those_of_the_chart() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    given = schema["properties"]["settings"]["properties"].keys()
    assert given == Settings.model_fields.keys() - {
        "listen",
        "admin",
        "workers",
        "data_dir",
        "cache_dir",
        "admin_token",
    }


def test_every_value_is_in_the_schema_and_every_other_is_refused() -> None:
    def check(values: Any, schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
            assert values.keys() <= schema["properties"].keys(), path
            for name, value in values.items():
                check(value, schema["properties"][name], f"{path}.{name}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    check(values, schema, "")
    for name, value in values.items():
        assert (
            not isinstance(value, dict) or not value or "properties" in schema["properties"][name] or name in PLAIN
        ), name


def test_the_pod_ends_later_than_the_streams_it_drains() -> None:
    pod = render("settings.drain_seconds=60")["Deployment", "waf-envoy-waf"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 80


def test_variables_of_kubernetes_are_no_settings() -> None:
    pod = render()["Deployment", "waf-envoy-waf"]["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False


def test_secrets_and_volumes_of_ones_own() -> None:
    pod = render(
        "env[0].name=ENVOY_WAF_REDIS_URL", "env[0].valueFrom.secretKeyRef.name=r", "extraVolumes[0].name=audit",
        "extraVolumeMounts[0].name=audit", "extraVolumeMounts[0].mountPath=/audit",
    )["Deployment", "waf-envoy-waf"]["spec"]["template"]["spec"]  # fmt: skip
    container = pod["containers"][0]
    assert container["env"][-1] == {"name": "ENVOY_WAF_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "r"}}}
    assert pod["volumes"][-1]["name"] == "audit"
    assert container["volumeMounts"][-1] == {"name": "audit", "mountPath": "/audit"}


def test_the_filter_reaches_gateways_of_all_namespaces_unless_told_otherwise() -> None:
    found = render("istio.enabled=true")["EnvoyFilter", "waf-envoy-waf"]
    assert found["metadata"]["namespace"] == "istio-system"
    assert found["spec"]["workloadSelector"] == {"labels": {"istio": "ingressgateway"}}
    own = render("istio.enabled=true", "istio.namespace=shop", "istio.selector.app=shop")[
        "EnvoyFilter", "waf-envoy-waf"
    ]
    assert own["metadata"]["namespace"] == "shop"
    assert own["spec"]["workloadSelector"] == {"labels": {"app": "shop"}}


def test_a_policy_in_the_gateways_namespace_may_use_the_service() -> None:
    assert ("ReferenceGrant", "waf-envoy-waf") not in render("envoyGateway.enabled=true")
    documents = render("envoyGateway.enabled=true", "envoyGateway.namespace=gateways", "envoyGateway.messageTimeout=3s")
    policy = documents["EnvoyExtensionPolicy", "waf-envoy-waf"]
    grant = documents["ReferenceGrant", "waf-envoy-waf"]["spec"]
    assert policy["metadata"]["namespace"] == grant["from"][0]["namespace"] == "gateways"
    processor = policy["spec"]["extProc"][0]
    assert processor["backendRefs"] == [{"name": "waf-envoy-waf", "namespace": "prod", "port": 9002}]
    assert (processor["failOpen"], processor["messageTimeout"]) == (False, "3s")


def test_envoy_gateway_may_buffer_and_fail_open() -> None:
    policy = render("envoyGateway.enabled=true", "envoyGateway.bodyMode=Buffered", "envoyGateway.failOpen=true")[
        "EnvoyExtensionPolicy", "waf-envoy-waf"
    ]
    (processor,) = policy["spec"]["extProc"]
    mode = processor["processingMode"]
    assert (processor["failOpen"], mode["request"]["body"], mode["response"]["body"]) == (
        True,
        "Buffered",
        "BufferedPartial",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("workers=2", "istio.enabled=true"), "set replicas"),
        (("workers=2", "envoyGateway.enabled=true"), "set replicas"),
        (("workers=2", "service.adminPort=9012"), "is the port of worker 1, too"),
        (("networkPolicy.enabled=true",), "networkPolicy.envoySelector is empty"),
        (("istio.enabled=true", "istio.context=SIDECAR_INBOUND"), "istio.selector is empty"),
        (
            ("istio.enabled=true", "istio.failureModeAllow=true", "istio.bodyMode=FULL_DUPLEX_STREAMED"),
            "set istio.bodyMode: BUFFERED",
        ),
        (("envoyGateway.enabled=true", "envoyGateway.failOpen=true"), "set envoyGateway.bodyMode: Buffered"),
        (("settings.rules={@baseline}", r"rules.own\.conf=x"), "settings.rules says which rules serve"),
    ],
)
def test_values_that_would_do_nothing_are_refused(values: tuple[str, ...], message: str) -> None:
    found = helm("template", "waf", str(CHART), *(part for value in values for part in ("--set", value)))
    assert found.returncode != 0
    assert message in found.stderr


COMMANDS = [
    line
    for name in ("README.md", "docs/operations.md")
    for line in re.findall(r"helm install [^\n`]*", (PROJECT / name).read_text())
]


def test_there_are_commands_in_the_documentation() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_documentation_work(command: str) -> None:
    arguments = shlex.split(command.replace("--create-namespace", ""))[2:]
    found = subprocess.run(
        [str(HELM), "template", *arguments], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert found.returncode == 0, found.stderr
    kinds = {document["kind"] for document in yaml.safe_load_all(found.stdout) if document}
    assert kinds & {"EnvoyFilter", "EnvoyExtensionPolicy"}


def test_ports_of_workers_service_and_container_agree() -> None:
    documents = render("workers=3")
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
    "value",
    [
        "workers=0", "replicas=none", "nonsense=1", "settings.listen=0.0.0.0:1", "istio.context=X", "settings.paranoia=2",
        "istio.failureModeallow=true", "settings.data_dir=/x", "settings.paranoia_level=5",
    ],
)  # fmt: skip
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


@pytest.mark.parametrize(
    ("istio", "gateway", "again"),
    [("BUFFERED", "Buffered", True), ("FULL_DUPLEX_STREAMED", "FullDuplexStreamed", False)],
)
def test_another_pod_is_asked_where_nothing_can_be_lost(tmp_path: Path, istio: str, gateway: str, again: bool) -> None:
    documents = render(*EVERYTHING, f"istio.bodyMode={istio}", f"envoyGateway.bodyMode={gateway}")
    patch = documents["EnvoyFilter", "waf-envoy-waf"]["spec"]["configPatches"][0]["patch"]["value"]
    assert ("retry_policy" in patch["typed_config"]["grpc_service"]) == again
    (processor,) = documents["EnvoyExtensionPolicy", "waf-envoy-waf"]["spec"]["extProc"]
    assert ("retry" in processor["backendSettings"]) == again
    path = tmp_path / "chart.yaml"
    version = "gateway.envoyproxy.io/v1alpha1"
    buffer = {"apiVersion": version, "kind": "ClientTrafficPolicy", "spec": {"connection": {"bufferLimit": "14Mi"}}}
    path.write_text(yaml.safe_dump_all([*documents.values(), buffer]))
    settings = Settings.model_validate({"mode": "On", "rules": ["@recommended", "@baseline"]})
    assert notes_of_files([path], settings, compile_policies(settings)) == []


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
def test_envoy_takes_the_filter_of_the_chart(tmp_path: Path, mode: str) -> None:
    documents = render(*EVERYTHING, f"istio.bodyMode={mode}")
    found = documents["EnvoyFilter", "waf-envoy-waf"]["spec"]["configPatches"][0]["patch"]["value"]
    cluster = found["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]
    assert cluster == "outbound|9002||waf-envoy-waf.prod.svc.cluster.local"
    validate(tmp_path, bootstrap_with(found, cluster))


def test_envoy_takes_the_istio_example(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all((PROJECT / "deploy" / "istio" / "sidecar.yaml").read_text()))
    cluster, http_filter, _ = (patch["patch"]["value"] for patch in documents[1]["spec"]["configPatches"])
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


def test_dashboard_alerts_and_manual_tell_of_metrics_that_there_are(tmp_path: Path) -> None:
    known = set()
    families = [*Metrics().registry.collect(), *WorkersMetrics(tmp_path).collect()]
    for family in families:
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
    told = (PROJECT / "docs" / "operations.md").read_text()
    assert [family.name for family in families if family.name not in told] == []
