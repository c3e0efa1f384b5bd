"""Imports point one way, and each outside thing is known to one place; docs/architecture.md says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = "extproc._pb"

# Who may import a library; whatever is not listed here may be imported anywhere.
ONLY_IN = {
    "grpc": ["extproc.grpc_transport"],
    "grpc_health": ["extproc.wire"],
    "hpack": ["extproc.http2.headers"],
    "google.protobuf": ["extproc.wire"],
    GENERATED: ["extproc.wire"],
    "azure": [
        *("extproc.store.cosmos*", "extproc.keys.key_vault", "extproc.witness.azure_blob"),
        # Which of them the settings ask for, and the workload's identity for it.
        "extproc.stores",
    ],
    "prometheus_client": ["extproc.metrics*", "extproc.operations"],
    "aiohttp": [
        *("extproc.keys.*", "extproc.credentials.*", "extproc.identities", "extproc.serve", "extproc.operations"),
        *("extproc.workers", "extproc.worker_process", "extproc.doctor.gateway", "extproc.draining"),
        "extproc.commands.drain",
        *("extproc.notify.*", "extproc.dev.*", "extproc.witness.*", "extproc.feed.*", "extproc.recorder"),
        *("extproc.commands.entries", "extproc.commands.feed", "extproc.signin.*", "extproc.commands.login"),
        *("extproc.console.services", "extproc.console.shipping", "extproc.console.composed"),
        *("extproc.commands.console", "extproc.remote.server"),
    ],
    "apprise": ["extproc.notify.channels"],
    "keyring": ["extproc.signin.kept"],
    "sqlite3": ["extproc.store.sqlite*"],
    "starlette": ["extproc.console.*", "extproc.commands.console"],
    "authlib": ["extproc.console.signing_in"],
    "httpx2": ["extproc.console.signing_in", "extproc.console.issuer_transport"],
    "jinja2": ["extproc.console.templates", "extproc.console.page"],
    "uvicorn": ["extproc.console.*", "extproc.commands.console"],
    "kingfisher_sdk": ["extproc.masking.detector"],
    "extproc.dev": ["extproc.dev.*", "extproc.commands.dev", "extproc.commands.acting"],
    "envoy_data_plane": [],
    "tests": [],
}

# From the lowest to the highest: a module imports only from its own layer or lower ones. A module's own name counts
# before a pattern that fits it.
VOCABULARY = [
    "extproc",
    "extproc.errors",
    "extproc.secret",
    "extproc.address",
    "extproc.conversation",
    "extproc.endpoint",
    "extproc.headers",
    "extproc.intercepted",
    "extproc.signin.profile",
    "extproc.identity.principal",
    "extproc.credential",
    "extproc.approval.approval",
    "extproc.approval.touch",
    "extproc.carrier",
    "extproc.events",
    "extproc.effects",
]
LOGIC = [
    "extproc.account",
    "extproc.approval*",
    "extproc.client_settings*",
    "extproc.conditions",
    "extproc.echo",
    "extproc.encoding",
    "extproc.globs",
    "extproc.json_body",
    "extproc.tool_paths",
    "extproc.masking*",
    "extproc.identity*",
    "extproc.policy",
    "extproc.dialect*",
    "extproc.recording*",
    "extproc.retention.legal_hold",
    "extproc.retention.plan",
    "extproc.store.port",
    "extproc.tracing*",
    "extproc.verification*",
    "extproc.inspection",
    "extproc.release",
    "extproc.replies",
    "extproc.request",
    "extproc.response",
    "extproc.rules",
    "extproc.telemetry",
    "extproc.endings",
]
EXCHANGE = ["extproc.exchange", "extproc.tunnel"]
ADAPTERS = [
    "extproc.exchange_id",
    "extproc.grpc_transport",
    "extproc.http2*",
    "extproc.outside",
    "extproc.approval.waiting",
    "extproc.certificates*",
    "extproc.wire*",
    "extproc.masking.detector",
    "extproc.durable",
    "extproc.store.*",
    "extproc.store",
    "extproc.spool*",
    "extproc.witness*",
    "extproc.shipping*",
    "extproc.feed*",
    "extproc.export*",
    "extproc.retention*",
    "extproc.notify*",
    "extproc.keys*",
    "extproc.credentials*",
    "extproc.metrics*",
    "extproc.operations",
    "extproc.logs",
    "extproc.processes",
    "extproc.relative",
    "extproc.handover",
    "extproc.siblings",
    "extproc.draining",
    "extproc.yaml_file",
    "extproc.policy_approval",
    "extproc.policy_endpoints",
    "extproc.policy_file",
    "extproc.policy_masking",
    "extproc.policy_model",
    "extproc.relay*",
    "extproc.replay",
    "extproc.signin*",
]
LAYERS = [
    VOCABULARY,
    LOGIC,
    EXCHANGE,
    ADAPTERS,
    ["extproc.call", "extproc.health", "extproc.processor", "extproc.server"],
    ["extproc.config", "extproc.config_console", "extproc.config_issuers", "extproc.config_recording"],
    ["extproc.stores", "extproc.recorder", "extproc.identities", "extproc.serve", "extproc.worker*"],
    ["extproc.console*", "extproc.remote*", "extproc.doctor*"],
    ["extproc.dev*"],
    ["extproc.cli", "extproc.commands*", "extproc.__main__"],
]
PURE = LAYERS.index(EXCHANGE)
"""Layers up to this one do no input or output."""
IMPURE = ["asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "sys", "threading", "time", "yaml"]


def modules() -> dict[str, Path]:
    found = {}
    for path in (ROOT / "extproc").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return {name: path for name, path in found.items() if not name.startswith(GENERATED)}


MODULES = modules()


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports(module: str) -> Iterator[str]:
    """Yield what a module imports, anywhere in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(parsed(module)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(base, names, level):
                assert level == 0, f"{module}: a relative import hides where it points"
                assert base is not None
                yield base
                yield from (f"{base}.{alias.name}" for alias in names)


def is_in(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def belongs_to(imported: str, package: str) -> bool:
    return imported == package or imported.startswith(f"{package}.")


def layer_of(module: str) -> int:
    named = [number for number, patterns in enumerate(LAYERS) if module in patterns]
    fitting = [number for number, patterns in enumerate(LAYERS) if is_in(module, patterns)]
    return (named or fitting)[0]


def test_this_test_sees_the_modules_it_speaks_of() -> None:
    listed = [pattern for patterns in [*LAYERS, *ONLY_IN.values()] for pattern in patterns]
    assert [pattern for pattern in listed if not any(fnmatchcase(name, pattern) for name in MODULES)] == []
    assert "extproc.dialect.port" in set(imports("extproc.exchange"))


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_only_where_it_is_spoken_to(library: str) -> None:
    users = {module for module in MODULES if any(belongs_to(one, library) for one in imports(module))}
    assert sorted(module for module in users if not is_in(module, ONLY_IN[library])) == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_to_the_same_layer_or_a_lower_one(module: str) -> None:
    used = {one for one in imports(module) if one in MODULES}
    assert sorted(one for one in used if layer_of(one) > layer_of(module)) == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if layer_of(name) <= PURE))
def test_pure_modules_import_nothing_that_does_io(module: str) -> None:
    assert sorted(one for one in imports(module) if one.partition(".")[0] in IMPURE) == []


def test_imports_make_no_circle() -> None:
    uses = {module: {one for one in imports(module) if one in MODULES and one != module} for module in MODULES}
    for package in [name for name in MODULES if MODULES[name].name == "__init__.py"]:
        uses.pop(package)
    left = {module: {one for one in used if one in uses} for module, used in uses.items()}
    while free := [module for module, used in left.items() if not used]:
        for module in free:
            del left[module]
        left = {module: used - set(free) for module, used in left.items()}
    assert left == {}


def environment_reads(module: str) -> Iterator[int]:
    for node in ast.walk(parsed(module)):
        match node:
            case ast.Attribute(ast.Name("os"), "environ" | "environb" | "getenv" | "putenv"):
                yield node.lineno
            case ast.ImportFrom("os", names) if {alias.name for alias in names} & {"environ", "environb", "getenv"}:
                yield node.lineno


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_command_line_reads_the_environment(module: str) -> None:
    found = list(environment_reads(module))
    assert bool(found) is (module == "extproc.cli")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_is_a_drawer_for_the_rest(module: str) -> None:
    assert module.rpartition(".")[2] not in {"utils", "util", "helpers", "helper", "common", "misc", "base"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_asserts_what_must_hold_in_production(module: str) -> None:
    # `python -O` would take it out.
    assert [node.lineno for node in ast.walk(parsed(module)) if isinstance(node, ast.Assert)] == []
