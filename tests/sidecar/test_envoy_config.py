"""`envoy-waf check --envoy`: what is noted on Envoy's configuration, and where.  (What Envoy does: tests/envoy.)"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from demo.stack import PROJECT, http_manager, waf_filter
from extproc.cli import main
from extproc.config import ConfigError, Settings
from extproc.envoy_config.notes import notes_of_files
from extproc.envoy_config.parts import MAX_DEPTH, Configuration
from extproc.policies import compile_policies

Config = dict[str, Any]

BLOCKING = Settings.model_validate({"mode": "On", "rules": ["@recommended", "@baseline"]})
FILTER = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0]"
OF_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
SWITCH = "type.googleapis.com/envoy.config.route.v3.FilterConfig"


def buffered() -> Config:
    found: Config = yaml.safe_load((PROJECT / "deploy" / "envoy" / "buffered.yaml").read_text())
    return found


def cluster(config: Config) -> Config:
    found: Config = config["static_resources"]["clusters"][1]
    return found


@pytest.fixture
def noted(tmp_path: Path) -> Callable[..., list[str]]:
    """Notes on documents, as YAML or JSON."""
    path = tmp_path / "envoy.yaml"

    def notes(*documents: Any, settings: Settings = BLOCKING, as_json: bool = False) -> list[str]:
        path.write_text(json.dumps(documents[0]) if as_json else yaml.safe_dump_all(documents))
        found = notes_of_files([path], settings, compile_policies(settings))
        assert all(note.startswith(f"{path}: ") for note in found)
        return [note.removeprefix(f"{path}: ") for note in found]

    return notes


@pytest.mark.parametrize("name", ["buffered", "buffered-socket", "full-duplex", "full-duplex-socket"])
def test_our_own_configurations_are_fine(name: str) -> None:
    path = PROJECT / "deploy" / "envoy" / f"{name}.yaml"
    assert notes_of_files([path], BLOCKING, compile_policies(BLOCKING)) == []


@pytest.mark.parametrize("path", ["compose/envoy.yaml", "istio/sidecar.yaml", "envoy-gateway/policy.yaml"])
def test_those_of_containers_too(path: str) -> None:
    assert notes_of_files([PROJECT / "deploy" / path], BLOCKING, compile_policies(BLOCKING)) == []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"failure_mode_allow": True}, "failure_mode_allow: what the sidecar cannot judge"),
        ({"observability_mode": True}, "observability_mode: Envoy heeds no verdict"),
        ({"disable_immediate_response": True}, "disable_immediate_response: "),
        ({"forward_rules": {"allowed_headers": {"patterns": [{"exact": "host"}]}}}, "forward_rules.allowed_headers: "),
        ({"request_attributes": ["request.protocol", "destination.address"]}, "there is no source.address"),
        ({"metadata_options": {}}, "metadata_options: "),
        ({"message_timeout": "0.5s"}, "message_timeout: 500 ms"),
        ({"http_service": {}}, "http_service: the sidecar speaks gRPC"),
        ({"processing_mode": {"request_header_mode": "SKIP"}}, "request_header_mode: SKIP"),
        ({"processing_mode": {}}, "request_body_mode: NONE; bodies of requests"),
        ({"processing_mode": {"request_body_mode": 1}}, "request_body_mode: STREAMED"),
        ({"processing_mode": {"request_body_mode": "BUFFERED_PARTIAL"}}, "request_body_mode: BUFFERED_PARTIAL"),
        ({"processing_mode": {"request_body_mode": "GRPC"}}, "request_body_mode: GRPC; the sidecar does not know it"),
        ({"processing_mode": {"response_header_mode": "SKIP"}}, "response_header_mode: SKIP; responses are not judged"),
        ({"processing_mode": {"response_body_mode": "NONE"}}, "response_body_mode: NONE; bodies of responses"),
        ({"processing_mode": {"response_body_mode": "BUFFERED"}}, "response_body_mode: BUFFERED; pages beyond"),
    ],
)
def test_the_filter(change: Config, note: str, noted: Callable[..., list[str]]) -> None:
    config = buffered()
    for name, value in change.items():
        if name == "processing_mode":
            value = {**waf_filter(config)[name], **value} if value else {}
        waf_filter(config)[name] = value
    found = noted(config)
    assert any(each.startswith(f"{FILTER}: ") and note in each for each in found), found


def test_the_default_timeout_is_short(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    del waf_filter(config)["message_timeout"]
    (note,) = noted(config)
    assert "message_timeout: 200 ms" in note


def test_what_no_policy_needs_is_not_missed(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    waf_filter(config)["processing_mode"] = {"response_header_mode": "SKIP"}
    rules = 'SecRule ARGS "@contains x" "id:1,phase:1,deny"'
    given = {"mode": "On", "rules": ["@recommended"], "directives": f"{rules}\nSecRequestBodyAccess Off"}
    settings = Settings.model_validate(given)
    assert noted(config, settings=settings) == []
    waf_filter(config)["observability_mode"] = True
    assert noted(config, settings=settings.model_copy(update={"mode": "DetectionOnly"})) == []
    assert noted(config, settings=settings.model_copy(update={"mode": "Off"})) == []


def test_routes_of_policies_need_their_name(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    waf_filter(config)["request_attributes"].remove("xds.route_name")
    assert noted(config) == []
    settings = Settings.model_validate(
        {**BLOCKING.model_dump(), "policies": [{"name": "a", "match": [{"routes": ["checkout"]}]}]}
    )
    (note,) = noted(config, settings=settings)
    assert "there is no xds.route_name; matches of policies by `routes` never fit" in note


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ({"@type": OF_ROUTE, "disabled": True}, ["disabled: these requests pass uninspected"]),
        ({"@type": SWITCH, "disabled": True}, ["disabled: these requests pass uninspected"]),
        ({"@type": SWITCH, "config": {"@type": OF_ROUTE, "overrides": {"failure_mode_allow": True}}},
         ["overrides.failure_mode_allow: what the sidecar cannot judge passes"]),
        ({"@type": OF_ROUTE, "overrides": {"processing_mode": {"response_body_mode": "FULL_DUPLEX_STREAMED"}}},
         ["overrides.processing_mode.request_body_mode: NONE; bodies of requests pass uninspected"]),
        ({"@type": OF_ROUTE, "overrides": {"grpc_initial_metadata": [{"key": "X-Envoy-WAF-Policy", "value": "b"}]}},
         ["x-envoy-waf-policy: there is no policy 'b'; these requests end in 500"]),
        ({"@type": OF_ROUTE, "overrides": {"grpc_initial_metadata": [{"key": "x-envoy-waf-policy", "value": "default"}]}},
         []),
    ],
)  # fmt: skip
def test_routes(says: Config, expected: list[str], noted: Callable[..., list[str]]) -> None:
    config = buffered()
    host = http_manager(config)["route_config"]["virtual_hosts"][0]
    host["typed_per_filter_config"] = {"envoy.filters.http.ext_proc": says, "envoy.filters.http.other": says}
    found = noted(config)
    assert [note.split(": ", 1)[1] for note in found] == expected
    assert all("virtual_hosts[0].typed_per_filter_config.envoy.filters.http.ext_proc" in note for note in found)


def test_a_filter_that_only_routes_enable(noted: Callable[..., list[str]]) -> None:
    """As Envoy Gateway writes it."""
    config = buffered()
    http_manager(config)["http_filters"][0]["disabled"] = True
    assert [note.split(": ", 1)[1] for note in noted(config)] == ["disabled: nothing is judged"]
    host = http_manager(config)["route_config"]["virtual_hosts"][0]
    host["typed_per_filter_config"] = {"envoy.filters.http.ext_proc": {"@type": SWITCH, "config": {}}}
    assert noted(config) == []


def test_what_is_around_the_filter(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    listener = config["static_resources"]["listeners"][0]
    listener["per_connection_buffer_limit_bytes"] = 32768
    manager = http_manager(config)
    kind = "type.googleapis.com/envoy.extensions.filters.http.decompressor.v3.Decompressor"
    manager["http_filters"].insert(1, {"name": "gunzip", "typed_config": {"@type": kind}})
    router = manager["http_filters"][-1]
    manager["upgrade_configs"] = [{"upgrade_type": "websocket", "filters": [router]}]
    listener["filter_chains"].append(
        {"filters": [{"name": "other", "typed_config": {**manager, "stat_prefix": "inner", "http_filters": [router]}}]}
    )
    del listener["filter_chains"][1]["filters"][0]["typed_config"]["upgrade_configs"]
    pages, behind, limit, without, upgrades = noted(config)
    assert "response_body_mode: BUFFERED_PARTIAL; what does not fit Envoy's buffer passes uninspected" in pages
    assert limit.startswith(
        "static_resources.listeners[0].per_connection_buffer_limit_bytes: 32768; with bodies BUFFERED"
    )
    assert "gunzip is behind it" in behind
    assert without == "connection managers without the filter: inner"
    assert upgrades.endswith(
        "upgrade_configs[0].filters: the filter is not among them; these upgrades pass uninspected"
    )
    only_responses = {"common_config": {"enabled": {"default_value": False, "runtime_key": "gunzip"}}}
    manager["http_filters"][1]["typed_config"]["request_direction_config"] = only_responses
    assert not any("gunzip" in note for note in noted(config))
    del manager["http_filters"][1]["typed_config"]["request_direction_config"]
    manager["http_filters"].insert(0, manager["http_filters"].pop(1))
    assert not any("gunzip" in note for note in noted(config))


def test_the_cluster(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    own = cluster(config)
    own["circuit_breakers"] = {"thresholds": [{"priority": "HIGH", "max_requests": 1}]}
    del own["typed_extension_protocol_options"]
    http2, requests, retries = noted(config)
    assert (
        http2
        == "static_resources.clusters[1]: the cluster envoy_waf has no http2_protocol_options, and gRPC needs HTTP/2"
    )
    assert requests.startswith("static_resources.clusters[1].circuit_breakers: 1024 requests at a time")
    assert retries.startswith("static_resources.clusters[1].circuit_breakers.max_retries: 3 requests at a time")
    limits = {"max_requests": 10000, "max_retries": 10000}
    own |= {"http2_protocol_options": {}, "circuit_breakers": {"thresholds": [limits]}}
    assert noted(config) == []
    del waf_filter(config)["grpc_service"]["retry_policy"], limits["max_retries"]
    assert noted(config) == []
    own["name"] = "other"
    assert noted(config) == ["there is no cluster envoy_waf, which the filter asks"]
    config["dynamic_resources"] = {}
    assert noted(config) == []


def test_several_workers(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    own = cluster(config)
    two = BLOCKING.model_copy(update={"workers": 2})
    assert noted(config, settings=two) == [
        "static_resources.clusters[1].load_assignment: 1 of 2 workers; the others get no requests"
    ]
    endpoints = own["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoints.append(endpoints[0])
    assert noted(config, settings=two) == []
    del waf_filter(config)["grpc_service"]["retry_policy"]
    assert noted(config, settings=two) == []
    checks = own.pop("health_checks")
    (note,) = noted(config)
    assert note.startswith("static_resources.clusters[1]: while one of 2 endpoints is down, its share of the requests")
    assert noted(config, settings=two) == [note]
    own["outlier_detection"] = {}
    assert noted(config) == []
    del own["outlier_detection"]
    own["type"] = "STRICT_DNS"  # how many there are is not known
    assert noted(config) == []
    own |= {"type": "STATIC", "health_checks": checks}
    assert noted(config) == []


@pytest.mark.parametrize(
    ("mode", "retry_on", "note"),
    [
        ("BUFFERED", "connect-failure, refused-stream", ""),
        ("STREAMED", "connect-failure", ""),
        (
            "BUFFERED",
            "reset,connect-failure,5xx",
            "grpc_service.retry_policy.retry_on: reset, 5xx; a request that ends",
        ),
        ("FULL_DUPLEX_STREAMED", "connect-failure", "grpc_service.retry_policy: with bodies FULL_DUPLEX_STREAMED"),
    ],
)
def test_asking_again(mode: str, retry_on: str, note: str, noted: Callable[..., list[str]]) -> None:
    config = buffered()
    waf_filter(config)["processing_mode"]["request_body_mode"] = mode
    waf_filter(config)["grpc_service"]["retry_policy"]["retry_on"] = retry_on
    found = [each for each in noted(config) if "retry" in each]
    assert len(found) == bool(note)
    assert all(each.startswith(f"{FILTER}: {note}") for each in found)


def camel(value: Any) -> Any:
    if isinstance(value, list):
        return [camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    words = {name: name.split("_") if "." not in name else [name] for name in value}
    return {w[0] + "".join(map(str.title, w[1:])): camel(value[name]) for name, w in words.items()}


def test_names_may_be_those_of_json(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    waf_filter(config)["failure_mode_allow"] = True
    (note,) = noted(camel(config), as_json=True)
    place = "staticResources.listeners[0].filterChains[0].filters[0].typedConfig.httpFilters[0]"
    assert note.startswith(f"{place}: failure_mode_allow: ")


def test_types_that_the_control_plane_did_not_know(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    entry = http_manager(config)["http_filters"][0]
    kind = waf_filter(config).pop("@type")
    struct = "type.googleapis.com/xds.type.v3.TypedStruct"
    entry["typed_config"] = {
        "@type": struct,
        "type_url": kind,
        "value": {**waf_filter(config), "failure_mode_allow": True},
    }
    (note,) = noted(config)
    assert note.startswith(f"{FILTER}: failure_mode_allow: ")


def test_documents_of_kubernetes(noted: Callable[..., list[str]]) -> None:
    documents = list(yaml.safe_load_all((PROJECT / "deploy" / "istio" / "sidecar.yaml").read_text()))
    documents[1]["spec"]["configPatches"][1]["patch"]["value"]["typed_config"]["failure_mode_allow"] = True
    (note,) = noted(*documents)
    assert note.startswith("document 2: spec.configPatches[1].patch.value: failure_mode_allow: ")


def test_other_filters_of_the_kind_are_others_business(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    other = {
        **waf_filter(config),
        "grpc_service": {"envoy_grpc": {"cluster_name": "translator"}},
        "metadata_options": {},
    }
    other["failure_mode_allow"] = True
    http_manager(config)["http_filters"].insert(0, {"name": "translator", "typed_config": other})
    assert noted(config) == []
    http_manager(config)["http_filters"].pop(1)
    assert any("failure_mode_allow" in note for note in noted(config)), "the only one is taken for ours"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2\n", "line 2: "),
        ("{", "Expecting property name"),
        ("a: 1\n", "no filter in it is of the type"),
        ("\xff", "UTF-8"),
        ("- " * (MAX_DEPTH + 3) + "1\n", f"more than {MAX_DEPTH} levels"),
    ],
)
def test_what_cannot_be_used(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        notes_of_files([path], BLOCKING, compile_policies(BLOCKING))
    assert str(error.value).startswith(f"{path}: ")
    assert told.lower() in str(error.value).lower()


def test_aliases_do_not_multiply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.envoy_config.parts.MAX_PARTS", 1000)
    path = tmp_path / "envoy.yaml"
    lines = ["a0: &a0 [1, 2]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="more than 1000 objects"):
        Configuration.read(path)


def test_values_of_another_kind_are_told_with_their_place(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    waf_filter(config)["processing_mode"]["request_body_mode"] = "WHOLE"
    with pytest.raises(ConfigError) as error:
        noted(config)
    assert FILTER in str(error.value)
    assert "WHOLE" in str(error.value)


def test_what_should_be_a_number_is_told_with_its_place(noted: Callable[..., list[str]]) -> None:
    config = buffered()
    cluster(config)["circuit_breakers"] = {"thresholds": [{"max_requests": "many"}]}
    place = r"static_resources.clusters\[1\].circuit_breakers.thresholds\[0\].max_requests: 'many' is no number"
    with pytest.raises(ConfigError, match=place):
        noted(config)


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    config = buffered()
    waf_filter(config)["failure_mode_allow"] = True
    path.write_text(yaml.safe_dump(config))
    arguments = ["check", "-r", "@recommended", "--data-dir", str(tmp_path), "--envoy", str(path)]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 0
    assert f"note: {path}: {FILTER}: failure_mode_allow: " in found.output
    told = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert any("failure_mode_allow" in note for note in told["notes"])
    path.unlink()
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 1
    assert "No such file" in found.output
    assert json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)["ok"] is False


def policy() -> Config:
    found: Config = next(yaml.safe_load_all((PROJECT / "deploy" / "envoy-gateway" / "policy.yaml").read_text()))
    return found


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"failOpen": True}, ": failOpen: what the sidecar cannot judge"),
        ({"messageTimeout": "500ms"}, ": messageTimeout: 500 ms; a large body"),
        ({"messageTimeout": None}, ": messageTimeout: 200 ms; a large body"),
        ({"metadata": None}, ": metadata.writableNamespaces: envoy_waf may not be written"),
        ({"processingMode": None}, ": processingMode.request: SKIP; without headers"),
        ({"processingMode": {"request": {"body": "FullDuplexStreamed"}}}, ": processingMode.response: SKIP; responses"),
        ({"processingMode": {"request": {}}}, ": processingMode.request.body: NONE; bodies of requests"),
        ({"processingMode": {"request": {"body": "Streamed"}}}, ": processingMode.request.body: STREAMED; bodies go on"),
        ({"processingMode": {"request": {"body": "BufferedPartial"}}}, ".request.body: BUFFERED_PARTIAL; what does not fit"),
        ({"processingMode": {"request": {}}}, ": processingMode.request.attributes: there is no source.address"),
        ({"backendSettings": None}, ".backendSettings.circuitBreaker.maxParallelRequests: 1024 requests at a time"),
        ({"backendSettings": {"retry": {"numRetries": 1}}}, ": backendSettings.retry: with bodies FULL_DUPLEX_STREAMED"),
        ({"backendSettings": {"retry": {}}}, ".backendSettings.circuitBreaker.maxParallelRequests: 1024 requests"),
        (
            {"backendSettings": {"retry": {"retryOn": {"triggers": ["connect-failure", "reset"]}}}},
            ": backendSettings.retry.retryOn.triggers: reset; a request that ends one worker",
        ),
        (
            {"backendSettings": {"retry": {"numRetries": 1}, "circuitBreaker": {"maxParallelRetries": 9}}},
            ".backendSettings.circuitBreaker.maxParallelRetries: 9 requests at a time",
        ),
        (
            {"processingMode": {"request": {"body": "Buffered"}}},
            "connection.bufferLimit (there is no ClientTrafficPolicy): 32768; with bodies BUFFERED, Envoy answers",
        ),
    ],
)  # fmt: skip
def test_a_policy_of_envoy_gateway(change: Config, note: str, noted: Callable[..., list[str]]) -> None:
    given = policy()
    (processor,) = given["spec"]["extProc"]
    processor.update(change)
    for name in [name for name, value in change.items() if value is None]:
        del processor[name]
    found = noted(given)
    assert any(note in each for each in found), found
    assert all(each.startswith(("spec.extProc[0]", "connection.bufferLimit")) for each in found)


@pytest.mark.parametrize(
    ("limit", "short"), [("14Mi", ""), ("1Gi", ""), (14_000_000, ""), ("13M", "13000000"), ("64Ki", "65536")]
)
def test_what_envoy_gateway_buffers(limit: Any, short: str, noted: Callable[..., list[str]]) -> None:
    given = policy()
    given["spec"]["extProc"][0]["processingMode"]["request"]["body"] = "Buffered"
    traffic = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "ClientTrafficPolicy",
        "spec": {"connection": {"bufferLimit": limit}},
    }
    found = [note.partition(";")[0] for note in noted(given, traffic)]
    assert found == ([f"document 2: spec.connection.bufferLimit: {short}"] if short else [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messageTimeout": "2"}, r"spec.extProc\[0\].messageTimeout: '2' is no duration"),
        ({"processingMode": {"request": {"body": "All"}}}, r"processingMode.request.body: 'All' is none of Streamed, "),
        ({"processingMode": {"request": {"body": {}}}}, r"processingMode.request.body: {} is none of Streamed, "),
        ({"processingMode": {"request": {"attributes": 5}}}, r"extProc\[0\]: Failed to parse request_attributes field"),
        ({"metadata": {"writableNamespaces": "x"}}, r"extProc\[0\]: Failed to parse metadata_options field"),
        (
            {"backendSettings": {"circuitBreaker": {"maxParallelRequests": "x"}}},
            r"extProc\[0\].*max_requests: 'x' is no number",
        ),
    ],
)
def test_a_policy_that_envoy_gateway_would_refuse(
    change: Config, message: str, noted: Callable[..., list[str]]
) -> None:
    given = policy()
    given["spec"]["extProc"][0].update(change)
    with pytest.raises(ConfigError, match=message):
        noted(given)
    traffic = {
        "apiVersion": "gateway.envoyproxy.io/v1",
        "kind": "ClientTrafficPolicy",
        "spec": {"connection": {"bufferLimit": "1 MB"}},
    }
    with pytest.raises(ConfigError, match="bufferLimit: '1 MB' is no quantity"):
        noted(policy(), traffic)


def test_what_an_envoy_filter_puts_into_listeners(noted: Callable[..., list[str]]) -> None:
    def patched(*patches: Config) -> Config:
        return {"kind": "EnvoyFilter", "spec": {"configPatches": list(patches)}}

    config = buffered()
    own = {"applyTo": "HTTP_FILTER", "patch": {"value": http_manager(config)["http_filters"][0]}}
    (note,) = noted(patched(own))
    assert note.startswith("per_connection_buffer_limit_bytes of the listener: 1048576; with bodies BUFFERED")
    more = {"applyTo": "LISTENER", "patch": {"value": {"per_connection_buffer_limit_bytes": 14 << 20}}}
    assert noted(patched(own, more)) == []
