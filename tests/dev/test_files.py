from __future__ import annotations

import copy
import importlib
import json
import stat
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import betterproto2
import pytest
import yaml

from extproc import config, policy_file
from extproc.certificates import operations as certificates
from extproc.dev import files
from extproc.dev.files import Ports, prepare
from extproc.dev.runner import envoy_binary
from extproc.endpoint import Upstream
from extproc.errors import ConfigError
from extproc.intercepted import DEFAULT_HOSTS
from extproc.tunnel import INTERCEPTED

NOW = 1_760_000_000.0
ROOT = Path(__file__).parent.parent.parent
ENVOY = ROOT / "envoy"
UPSTREAM = "http://127.0.0.1:8090"
NAMES = ("envoy.yaml", "upstreams.yaml", "workers.yaml", "tls.yaml", "proxy-tls.yaml")
PORTS = Ports(http=1, https=2, issuer=3, upstream=4, ops=5, admin=6, console=7, proxy=8, proxy_https=9, envoy_ops=10)

Path_ = tuple[str | int, ...]


def loaded(path: Path) -> Any:
    # Through JSON, so that aliases become values of their own.
    return json.loads(json.dumps(yaml.safe_load(path.read_text())))


PRODUCTION = {name: loaded(ENVOY / name) for name in NAMES}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    prepare(tmp_path / "state", PORTS, UPSTREAM, now=NOW)
    return tmp_path / "state"


def walk(value: Any, at: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every value that holds no others, with its place."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not children:
        yield at, value
    for key, child in children or ():
        yield from walk(child, (*at, key))


def changes(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """Return by its dotted place every leaf that differs, `None` for what is not there."""
    old, new = dict(walk(before)), dict(walk(after))
    places = [place for place in {**old, **new} if old.get(place) != new.get(place)]
    return {".".join(map(str, place)): (old.get(place), new.get(place)) for place in places}


# --- what is written -------------------------------------------------------------------------------------------------


def test_the_rendered_listeners_differ_only_in_addresses_and_paths(state: Path) -> None:
    found = changes(PRODUCTION["envoy.yaml"], loaded(state / "envoy.yaml"))
    static, address = "static_resources", "load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address"
    listeners, tls = f"{static}.listeners", "transport_socket.typed_config.common_tls_context"
    secret = f"{tls}.tls_certificate_sds_secret_configs.0.sds_config.path_config_source.path"
    assert [one["name"] for one in PRODUCTION["envoy.yaml"][static]["listeners"]] == [
        *("http", "https", "proxy", "proxy-https", "operations", "intercepted")
    ]
    assert {place: new for place, (_, new) in found.items()} == {
        "admin.address.socket_address.port_value": 6,
        "dynamic_resources.cds_config.path_config_source.path": str(state / "upstreams.yaml"),
        f"{listeners}.0.address.socket_address.address": "127.0.0.1",
        f"{listeners}.0.address.socket_address.port_value": 1,
        f"{listeners}.1.address.socket_address.address": "127.0.0.1",
        f"{listeners}.1.address.socket_address.port_value": 2,
        f"{listeners}.1.filter_chains.0.{secret}": str(state / "tls.yaml"),
        f"{listeners}.1.filter_chains.1.{secret}": str(state / "proxy-tls.yaml"),
        f"{listeners}.2.address.socket_address.address": "127.0.0.1",
        f"{listeners}.2.address.socket_address.port_value": 8,
        f"{listeners}.3.address.socket_address.address": "127.0.0.1",
        f"{listeners}.3.address.socket_address.port_value": 9,
        f"{listeners}.3.filter_chains.0.{secret}": str(state / "tls.yaml"),
        f"{listeners}.4.address.socket_address.address": "127.0.0.1",
        f"{listeners}.4.address.socket_address.port_value": 10,
        f"{listeners}.5.filter_chains.0.{secret}": str(state / "proxy-tls.yaml"),
        f"{static}.clusters.2.eds_cluster_config.eds_config.path_config_source.path": str(state / "workers.yaml"),
        f"{static}.clusters.3.{address}.port_value": 6,
    }


def test_the_development_gateway_has_one_worker(state: Path) -> None:
    (assignment,) = loaded(state / "workers.yaml")["resources"]
    assert assignment["cluster_name"] == "ext_proc"
    assert assignment["endpoints"] == [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": files.SOCKET}}}}]}]


def test_the_rendered_clusters_keep_their_names_and_differ_only_in_address_and_transport(state: Path) -> None:
    before, after = PRODUCTION["upstreams.yaml"], loaded(state / "upstreams.yaml")
    assert [one["name"] for one in after["resources"]] == [one["name"] for one in before["resources"]]
    endpoint = "load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.socket_address"
    allowed = ("transport_socket.", "typed_extension_protocol_options.", f"{endpoint}.")
    for place in changes(before, after):
        assert place.split(".", 2)[2].startswith(allowed), place
    for cluster in after["resources"]:
        assert "transport_socket" not in cluster
        address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        assert address == {"socket_address": {"address": "127.0.0.1", "port_value": 8090}}


@pytest.mark.parametrize(("name", "leaf"), [("tls.yaml", "tls"), ("proxy-tls.yaml", "proxy")])
def test_the_rendered_certificates_are_the_dev_cas(state: Path, name: str, leaf: str) -> None:
    found = changes(PRODUCTION[name], loaded(state / name))
    assert {place.rpartition("tls_certificate.")[2]: new for place, (_, new) in found.items()} == {
        "certificate_chain.filename": str(state / "ca" / f"{leaf}.crt"),
        "private_key.filename": str(state / "ca" / f"{leaf}.key"),
        "watched_directory.path": str(state / "ca"),
    }
    assert (state / "ca" / f"{leaf}.crt").exists()


def test_the_rendered_settings_are_good_and_name_what_is_there(state: Path) -> None:
    found = config.load(state / "gateway.yaml")
    assert found.settings.listen == [f"unix:{files.SOCKET}"]
    assert found.settings.operations == "127.0.0.1:5"
    assert found.issuers[0].url == PORTS.issuer_url == "http://127.0.0.1:3"
    assert found.credentials[0].file == state / "github-token"
    assert found.policy.digest == policy_file.load(ROOT / "extproc" / "dev" / "policy.yaml").digest
    clusters = {one["name"] for one in loaded(state / "upstreams.yaml")["resources"]}
    assert set(found.upstream_hosts.values()) <= clusters


def test_the_credential_is_made_once_and_only_its_owner_may_read_it(state: Path) -> None:
    token = (state / "github-token").read_text()
    assert token.startswith("gho_demo")
    assert stat.S_IMODE((state / "github-token").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    authority = (state / "ca" / "ca.pem").read_bytes()
    prepare(state, PORTS, UPSTREAM, now=NOW)
    assert (state / "github-token").read_text() == token
    assert (state / "ca" / "ca.pem").read_bytes() == authority


def test_another_policy_and_other_ports_replace_the_ones_before(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("version: 1\nrules: []\n")
    prepare(state, Ports(), "http://localhost:9", now=NOW, policy=other)
    assert (state / "policy.yaml").read_bytes() == other.read_bytes()
    assert loaded(state / "envoy.yaml")["admin"]["address"]["socket_address"]["port_value"] == 9901


@pytest.mark.parametrize(
    "upstream",
    [
        "https://127.0.0.1:1",
        "http://127.0.0.1",
        "127.0.0.1:1",
        "http://:1",
        "http://127.0.0.1:many",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:1/path",
        "",
    ],
)
def test_an_upstream_that_is_no_plain_address_is_refused_before_anything_is_written(
    tmp_path: Path, upstream: str
) -> None:
    with pytest.raises(ConfigError, match="expected http://HOST:PORT"):
        prepare(tmp_path / "state", Ports(), upstream, now=NOW)
    assert not (tmp_path / "state").exists()


# --- what Envoy says to it -------------------------------------------------------------------------------------------


def validate(folder: Path, file: str = "envoy.yaml") -> None:
    done = subprocess.run(  # noqa: S603 - Envoy
        [envoy_binary(), "--mode", "validate", "-c", file],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def validate_whole(folder: Path) -> None:
    """Validate all files as one: Envoy does not look into the files that the first one only names."""
    validate(folder)
    whole = loaded(folder / "envoy.yaml")
    static = whole["static_resources"]
    (workers,) = loaded(folder / "workers.yaml")["resources"]
    service = next(one for one in static["clusters"] if one["name"] == "ext_proc")
    del service["eds_cluster_config"], workers["@type"]
    service |= {"type": "STATIC", "load_assignment": workers}
    for name in sorted({*NAMES} - {"envoy.yaml", "workers.yaml"}):
        found = loaded(folder / name)["resources"]
        kind = "clusters" if name == "upstreams.yaml" else "secrets"
        static.setdefault(kind, []).extend({key: one[key] for key in one if key != "@type"} for one in found)
    for secret in (one for one in objects(static["listeners"]) if "sds_config" in one):
        del secret["sds_config"]
    del whole["dynamic_resources"]
    (folder / "whole.yaml").write_text(yaml.safe_dump(whole))
    validate(folder, "whole.yaml")


@pytest.mark.e2e
def test_envoy_accepts_the_rendered_files(state: Path) -> None:
    validate_whole(state)


@pytest.mark.e2e
def test_envoy_accepts_the_production_files(tmp_path: Path) -> None:
    certificates.ensure(tmp_path / "tls", (), NOW)
    for name in NAMES:
        text = (ENVOY / name).read_text().replace("/etc/envoy/", f"{tmp_path}/")
        (tmp_path / name).write_text(text.replace("/etc/ssl/certs/ca-certificates.crt", f"{tmp_path}/tls/ca.pem"))
    validate_whole(tmp_path)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("envoy.yaml", "failure_mode_allow"),
        ("upstreams.yaml", "connect_timeout"),
        ("workers.yaml", "lb_endpoints"),
        ("tls.yaml", "private_key"),
        ("proxy-tls.yaml", "private_key"),
    ],
)
def test_envoy_does_not_accept_just_anything(state: Path, name: str, key: str) -> None:
    (state / name).write_text((state / name).read_text().replace(key, f"{key}_"))
    with pytest.raises(AssertionError, match=f"{key}_"):
        validate_whole(state)


# --- what the production files promise -------------------------------------------------------------------------------


def managers_of(listener: str) -> list[dict[str, Any]]:
    """Return the HTTP connection manager of each filter chain, which must be its only filter."""
    (found,) = (one for one in PRODUCTION["envoy.yaml"]["static_resources"]["listeners"] if one["name"] == listener)
    chains = [chain["filters"] for chain in found["filter_chains"]]
    assert [[one["name"] for one in filters] for filters in chains] == [
        ["envoy.filters.network.http_connection_manager"]
    ] * len(chains)
    return [one["typed_config"] for (one,) in chains]


def managers() -> list[dict[str, Any]]:
    """Return the managers of exchanges."""
    return [manager for name in ("http", "https", "intercepted") for manager in managers_of(name)]


def proxy() -> dict[str, Any]:
    """Return the manager of CONNECTs."""
    (manager,) = managers_of("proxy")
    return manager


def routes_of(manager: dict[str, Any]) -> list[dict[str, Any]]:
    (host,) = manager["route_config"]["virtual_hosts"]
    assert host["domains"] == ["*"]
    return list(host["routes"])


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(child)


def test_every_way_in_but_the_proxy_has_the_same_http_connection_manager_and_nothing_beside_it() -> None:
    listeners = PRODUCTION["envoy.yaml"]["static_resources"]["listeners"]
    assert [(one["name"], len(one["filter_chains"])) for one in listeners] == [
        *(("http", 1), ("https", 2), ("proxy", 1), ("proxy-https", 1), ("operations", 1), ("intercepted", 2))
    ]
    assert managers()[0]["@type"].endswith(".HttpConnectionManager")
    assert [manager == managers()[0] for manager in managers()] == [True] * 5
    assert managers_of("proxy-https") == managers_of("proxy")
    assert not any("default_filter_chain" in one for one in listeners)


def test_clients_that_dns_leads_here_are_shown_the_certificate_of_the_host_they_ask_for() -> None:
    _, https, _, proxy_https, _, intercepted = PRODUCTION["envoy.yaml"]["static_resources"]["listeners"]
    own, transparent = https["filter_chains"]
    assert "filter_chain_match" not in own
    assert transparent["filter_chain_match"] == {"server_names": list(DEFAULT_HOSTS)}
    assert transparent["transport_socket"] == intercepted["filter_chains"][0]["transport_socket"]
    assert proxy_https["filter_chains"][0]["transport_socket"] == own["transport_socket"]


def test_who_reaches_the_port_of_operations_learns_whether_envoy_is_ready_and_its_numbers_and_nothing_else() -> None:
    (manager,) = managers_of("operations")
    assert filters_of(manager) == ["health_check", "router"]
    metrics, rest = routes_of(manager)
    assert metrics["match"] == {
        "path": "/stats/prometheus", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]
    }  # fmt: skip
    assert metrics["route"] == {"cluster": "admin", "timeout": "10s"}
    assert (rest["match"], rest["direct_response"]) == ({"prefix": "/"}, {"status": 404})
    ready = manager["http_filters"][0]["typed_config"]
    assert ready["pass_through_mode"] is False
    assert ready["cluster_min_healthy_percentages"] == {"ext_proc": {"value": 1}}
    assert PRODUCTION["envoy.yaml"]["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_what_is_inside_a_tunnel_is_read_whether_it_is_encrypted_or_not() -> None:
    listener = PRODUCTION["envoy.yaml"]["static_resources"]["listeners"][5]
    assert listener["internal_listener"] == {}
    assert "address" not in listener
    assert {chain["name"]: chain["filter_chain_match"] for chain in listener["filter_chains"]} == {
        "tls": {"transport_protocol": "tls"},
        "plain": {"transport_protocol": "raw_buffer"},
    }
    assert ["transport_socket" in chain for chain in listener["filter_chains"]] == [True, False]
    tls = [one["common_tls_context"] for one in objects(PRODUCTION["envoy.yaml"]) if "common_tls_context" in one]
    assert len(tls) == 4
    assert {one["tls_params"]["tls_minimum_protocol_version"] for one in tls} == {"TLSv1_2"}


def filters_of(manager: dict[str, Any]) -> list[str]:
    return [one["name"].removeprefix("envoy.filters.http.") for one in manager["http_filters"]]


def check_ext_proc(settings: dict[str, Any]) -> None:
    assert settings["failure_mode_allow"] is False
    for weakened in ("observability_mode", "allow_mode_override", "disable_immediate_response", "route_cache_action"):
        assert weakened not in settings


def test_a_failing_stream_fails_the_exchange_and_all_bytes_pass_the_service() -> None:
    for manager in managers():
        assert filters_of(manager) == ["ext_proc", "router"]
        settings = manager["http_filters"][0]["typed_config"]
        check_ext_proc(settings)
        assert "initial_metadata" not in settings["grpc_service"]  # by which the service knows a CONNECT
        assert settings["processing_mode"] == {
            "request_header_mode": "SEND",
            "request_body_mode": "FULL_DUPLEX_STREAMED",
            "request_trailer_mode": "SEND",
            "response_header_mode": "SEND",
            "response_body_mode": "FULL_DUPLEX_STREAMED",
            "response_trailer_mode": "SEND",
        }


def test_a_connect_is_decided_by_the_service_before_anything_is_noted_of_it_or_looked_up_for_it() -> None:
    assert filters_of(proxy()) == ["ext_proc", "set_filter_state", "dynamic_forward_proxy", "router"]
    settings = proxy()["http_filters"][0]["typed_config"]
    check_ext_proc(settings)
    assert settings["grpc_service"]["initial_metadata"] == [{"key": "x-gateway-door", "value": "proxy"}]
    modes = settings["processing_mode"]
    assert {modes["request_body_mode"], modes["response_body_mode"]} == {"NONE"}
    assert {modes["request_header_mode"], modes["response_header_mode"], modes["response_trailer_mode"]} == {"SEND"}


def test_what_the_service_is_told_of_a_connect_is_what_the_proxy_notes_of_it_and_for_one_connection_only() -> None:
    (noted,) = (one["on_request_headers"] for one in objects(proxy()) if "on_request_headers" in one)
    assert {one["shared_with_upstream"] for one in noted} == {"ONCE"}
    keys = {f"filter_state['{one['object_key']}']" for one in noted}
    asked = managers()[0]["http_filters"][0]["typed_config"]["request_attributes"]
    assert keys == {one for one in asked if one.startswith("filter_state")}
    logged = next(one for one in objects(PRODUCTION["envoy.yaml"]) if "filter_state_objects_to_log" in one)
    assert set(logged["filter_state_objects_to_log"]) == {one["object_key"] for one in noted}
    assert len(keys) == 3


def test_only_a_decided_request_finds_an_upstream_and_every_other_ends_in_503() -> None:
    for manager in managers():
        decided, undecided = routes_of(manager)
        assert decided["match"]["headers"] == [{"name": "x-gateway-upstream", "present_match": True}]
        assert decided["route"]["cluster_header"] == "x-gateway-upstream"
        assert undecided["match"] == {"prefix": "/"}
        assert undecided["direct_response"]["status"] == 503
        removed = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
        assert {"remove": "x-gateway-upstream"} in removed


def test_only_a_decided_connect_finds_its_way_and_everything_else_at_the_proxy_ends_in_503() -> None:
    *decided, undecided_tunnel, undecided = routes_of(proxy())
    ways = {Upstream.TUNNEL.value, INTERCEPTED}
    assert {one["route"]["cluster"] for one in decided} == ways
    for route in decided:
        header = {"name": "x-gateway-upstream", "string_match": {"exact": route["route"]["cluster"]}}
        assert route["match"] == {"connect_matcher": {}, "headers": [header]}
    assert (undecided_tunnel["match"], undecided["match"]) == ({"connect_matcher": {}}, {"prefix": "/"})
    assert undecided_tunnel["direct_response"]["status"] == undecided["direct_response"]["status"] == 503
    removed = proxy()["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    assert {"remove_on_match": {"key_matcher": {"prefix": "x-gateway-", "ignore_case": True}}} in removed
    clusters = {one["name"] for one in PRODUCTION["envoy.yaml"]["static_resources"]["clusters"]}
    assert clusters == ways | {"ext_proc", "admin"}
    # No exchange may name one of these where it goes.
    assert not clusters & {one["name"] for one in PRODUCTION["upstreams.yaml"]["resources"]}


def test_nothing_switches_the_filter_off_or_the_protocol_over_but_connect_at_the_proxy() -> None:
    weakening = {"upgrade_configs", "typed_per_filter_config", "upgrade_type", "connect_config"}
    for name in NAMES:
        config = copy.deepcopy(PRODUCTION[name])
        if name == "envoy.yaml":
            for listener in config["static_resources"]["listeners"][2:4]:
                manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
                assert manager.pop("upgrade_configs") == [{"upgrade_type": "CONNECT"}]
                for route in routes_of(manager)[:2]:
                    assert route["route"].pop("upgrade_configs") == [{"upgrade_type": "CONNECT", "connect_config": {}}]
        assert not {key for one in objects(config) for key in one} & weakening


def test_the_service_gives_up_before_envoy_does_so_that_the_end_is_recorded() -> None:
    limits = config.Limits()
    for manager in managers():
        idle = (manager["stream_idle_timeout"], routes_of(manager)[0]["route"]["idle_timeout"])
        assert limits.idle_seconds < min(map(seconds, idle))
        grpc = manager["http_filters"][0]["typed_config"]["grpc_service"]["timeout"]
        assert limits.total_seconds < seconds(grpc)


def test_a_tunnel_outlasts_every_silence_inside_and_one_that_is_not_read_has_the_bounds_of_an_exchange() -> None:
    limits = config.Limits()
    intercepted, tunnel = (route["route"] for route in routes_of(proxy())[:2])
    assert (intercepted["cluster"], tunnel["cluster"]) == (INTERCEPTED, Upstream.TUNNEL)
    # What is inside is bounded by its own manager, which answers; the tunnel around it would only be cut.
    assert "idle_timeout" not in intercepted
    assert "max_stream_duration" not in intercepted
    inside = managers_of("intercepted")[0]
    assert seconds(proxy()["stream_idle_timeout"]) > seconds(inside["stream_idle_timeout"])
    assert seconds(proxy()["stream_idle_timeout"]) >= seconds(inside["common_http_protocol_options"]["idle_timeout"])
    # The service hears nothing of an open tunnel, so it is Envoy that ends a silent one, and says so in its log.
    assert seconds(tunnel["idle_timeout"]) <= seconds(proxy()["stream_idle_timeout"])
    assert seconds(tunnel["max_stream_duration"]["max_stream_duration"]) <= limits.total_seconds
    grpc = proxy()["http_filters"][0]["typed_config"]["grpc_service"]["timeout"]
    assert limits.total_seconds < seconds(grpc)
    assert {route["timeout"] for route in (intercepted, tunnel)} == {"0s"}


def test_every_upstream_is_verified_by_exactly_its_name() -> None:
    for cluster in PRODUCTION["upstreams.yaml"]["resources"]:
        name = cluster["name"]
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        assert endpoint == {"hostname": name, "address": {"socket_address": {"address": name, "port_value": 443}}}
        tls = cluster["transport_socket"]["typed_config"]
        assert tls["sni"] == name
        (match,) = tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
        assert match == {"san_type": "DNS", "matcher": {"exact": name}}


def test_the_clusters_are_the_hosts_that_the_service_may_name() -> None:
    clusters = {one["name"] for one in PRODUCTION["upstreams.yaml"]["resources"]}
    allowed = config.ExchangeSettings().allowed_hosts
    assert {*config.UPSTREAM_HOSTS.values(), *allowed} == clusters


def test_names_that_tunnels_ask_for_are_few_and_soon_forgotten() -> None:
    (cluster,) = [one for one in PRODUCTION["envoy.yaml"]["static_resources"]["clusters"] if one["name"] == "tunnel"]
    (kept,) = [one for one in proxy()["http_filters"] if one["name"].endswith("dynamic_forward_proxy")]
    names = cluster["cluster_type"]["typed_config"]["dns_cache_config"]
    # Envoy refuses two caches of one name that differ.
    assert names == kept["typed_config"]["dns_cache_config"]
    # Each may be 253 characters long (RFC 1035 section 2.3.4): megabytes at most.
    assert seconds(names["host_ttl"]) <= 60
    assert names["max_hosts"] <= 10_000


# --- every key of the production files is a field of Envoy's API ---------------------------------------------------


def message_named(name: str) -> type[betterproto2.Message]:
    package, _, cls = name.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found: type[betterproto2.Message] = getattr(importlib.import_module(f"envoy_data_plane.{package}"), cls)
    return found


def unknown(value: Any, cls: type[Any], at: str) -> Iterator[str]:
    """Yield every place in `value` that the message `cls` has not."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown(item, cls, f"{at}[{index}]")
    elif issubclass(cls, betterproto2.Enum):
        if value not in {member.name for member in cls}:
            yield f"{at}: {value} is no {cls.__name__}"
    elif isinstance(value, dict) and "@type" in value:
        typed = message_named(value["@type"].removeprefix("type.googleapis.com/"))
        yield from unknown({key: one for key, one in value.items() if key != "@type"}, typed, at)
    elif isinstance(value, dict) and cls.__module__ != "envoy_data_plane.google.protobuf":
        yield from unknown_fields(value, cls, at)


def unknown_fields(value: dict[str, Any], cls: type[Any], at: str) -> Iterator[str]:
    described = cls._betterproto
    groups: dict[str, str] = {}
    for key, child in value.items():
        meta = described.meta_by_field_name.get(key)
        if meta is None:
            yield f"{at}.{key}: {cls.__name__} has no such field"
            continue
        if meta.group is not None and groups.setdefault(meta.group, key) != key:
            yield f"{at}.{key}: only one of it and {groups[meta.group]} may be set"
        if isinstance(child, list) is not meta.repeated:
            yield f"{at}.{key}: expected {'a list' if meta.repeated else 'one value'}"
        if meta.proto_type == "map" and (inner := described.cls_by_field.get(f"{key}.value")) is not None:
            for name, one in child.items():
                yield from unknown(one, inner, f"{at}.{key}.{name}")
        elif meta.proto_type in {"message", "enum"} and (inner := described.cls_by_field.get(key)) is not None:
            yield from unknown(child, inner, f"{at}.{key}")


def typed(name: str) -> tuple[Any, str]:
    """Return what the file holds and the message it is."""
    kind = (
        "envoy.config.bootstrap.v3.Bootstrap"
        if name == "envoy.yaml"
        else "envoy.service.discovery.v3.DiscoveryResponse"
    )
    return PRODUCTION[name], kind


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_a_field_of_envoys_api(name: str) -> None:
    value, kind = typed(name)
    assert list(unknown(value, message_named(kind), name)) == []


def test_the_check_of_keys_goes_all_the_way_down() -> None:
    broken = copy.deepcopy(PRODUCTION["envoy.yaml"])
    manager = broken["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][0]["typed_config"]["failure_mode_alow"] = True
    manager["http_filters"][0]["typed_config"]["processing_mode"]["request_body_mode"] = "FULL_DUPLEX"
    manager["route_config"]["virtual_hosts"][0]["routes"][1]["route"] = {"cluster": "x"}
    options = broken["static_resources"]["clusters"][2]["typed_extension_protocol_options"]
    options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["explicit_http_config"]["h2"] = {}
    found = list(unknown(broken, message_named("envoy.config.bootstrap.v3.Bootstrap"), ""))
    assert [text.rpartition(".")[2] for text in found] == [
        "route: only one of it and direct_response may be set",
        "request_body_mode: FULL_DUPLEX is no ProcessingModeBodySendMode",
        "failure_mode_alow: ExternalProcessor has no such field",
        "h2: HttpProtocolOptionsExplicitHttpConfig has no such field",
    ]
