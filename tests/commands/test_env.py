from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from tests.gateway_profile import TOKEN, SignedIn, telling

PROXY = "https://gateway.example:3128"
AUTHORITY = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
COMPANY = AUTHORITY.replace("AAAA", "BBBB")


def text_of(path: str) -> str:
    return Path(path).read_text()


async def evaluated(extproc: SignedIn, text: str) -> dict[str, str]:
    """Return the environment of a shell that has evaluated `text`."""
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", 'eval "$1"; env', "sh", text),
        env={"PATH": extproc.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert err == b""
    return dict(line.split("=", 1) for line in out.decode().splitlines())


async def test_a_shell_evaluates_what_is_printed_for_copilot_cli(tmp_path: Path) -> None:
    async with telling(PROXY) as gateway:
        extproc = SignedIn(tmp_path, gateway)
        ended = await extproc("env")
        assert (ended.code, ended.err) == (0, "")
        found = await evaluated(extproc, ended.out)
        assert found["COPILOT_API_URL"] == gateway
        assert found["COPILOT_GITHUB_TOKEN"] == f"gho_{TOKEN}"
        assert "HTTPS_PROXY" not in found


async def test_proxy_mode_names_the_authority_in_a_file_that_is_there(tmp_path: Path) -> None:
    async with telling(PROXY, AUTHORITY) as gateway:
        extproc = SignedIn(tmp_path, gateway)
        found = await evaluated(extproc, (await extproc("env", "--mode", "proxy")).out)
        assert found["HTTPS_PROXY"] == f"https://extproc:{TOKEN}@gateway.example:3128"
        assert TOKEN not in found["COPILOT_GITHUB_TOKEN"]
        assert found["NODE_EXTRA_CA_CERTS"].startswith(f"{tmp_path}/.config/copilot-extproc/ca-")
        assert text_of(found["NODE_EXTRA_CA_CERTS"]) == AUTHORITY


async def test_a_bundle_that_the_environment_names_is_named_anew(tmp_path: Path) -> None:
    (tmp_path / "company.pem").write_text(COMPANY)
    async with telling(PROXY, AUTHORITY) as gateway:
        extproc = SignedIn(tmp_path, gateway, more={"REQUESTS_CA_BUNDLE": str(tmp_path / "company.pem")})
        found = await evaluated(extproc, (await extproc("env", "--mode", "proxy")).out)
    assert text_of(found["REQUESTS_CA_BUNDLE"]).endswith(COMPANY + AUTHORITY)
    assert "CURL_CA_BUNDLE" not in found


async def test_commands_that_begin_together_write_the_authority_whole(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "copilot-extproc"
    async with telling(PROXY, AUTHORITY) as gateway:
        ended = await asyncio.gather(*(SignedIn(tmp_path, gateway)("env") for _ in range(4)))
    assert [(one.code, one.err) for one in ended] == [(0, "")] * 4
    (bundle,) = folder.glob("ca-bundle-*")
    (path,) = set(folder.iterdir()) - {bundle}
    assert path.read_text() == AUTHORITY
    assert bundle.read_text().endswith(AUTHORITY)


async def test_settings_that_hold_a_token_say_that_it_expires(tmp_path: Path) -> None:
    async with telling(PROXY) as gateway:
        for mode in ("url", "proxy"):
            assert "# The token expires." in (await SignedIn(tmp_path, gateway)("env", "--mode", mode)).out


async def test_a_proxy_that_would_see_the_token_in_plain_is_refused(tmp_path: Path) -> None:
    async with telling("http://gateway.example:3128") as gateway:
        for command in (("env", "--mode", "proxy"), ("run", "--", "true")):
            ended = await SignedIn(tmp_path, gateway)(*command)
            assert (ended.code, ended.out) == (2, "")
            assert "proxy must be an https URL" in ended.err


async def test_several_clients_are_printed_together_in_the_shell_that_is_asked_for(tmp_path: Path) -> None:
    async with telling() as gateway:
        clients = ("--client", "openai", "--client", "anthropic")
        ended = await SignedIn(tmp_path, gateway)("env", *clients, "--shell", "dotenv")
        lines = [line for line in ended.out.splitlines() if not line.startswith("#")]
        assert lines == [
            f"OPENAI_BASE_URL={gateway}/v1",
            f"OPENAI_API_KEY={TOKEN}",
            f"ANTHROPIC_BASE_URL={gateway}",
            f"ANTHROPIC_API_KEY={TOKEN}",
        ]


async def test_vscode_goes_by_the_proxy_and_its_settings_are_in_the_json(tmp_path: Path) -> None:
    async with telling(PROXY) as gateway:
        printed = json.loads((await SignedIn(tmp_path, gateway)("env", "--client", "vscode", "--shell", "json")).out)
        assert printed["settings"]["settings.json"]["http.proxy"] == f"https://extproc:{TOKEN}@gateway.example:3128"
        assert set(printed) == {"environment", "settings", "notes"}


async def test_whoever_is_not_signed_in_gets_nothing_to_evaluate(tmp_path: Path) -> None:
    async with telling() as gateway:
        ended = await replace(SignedIn(tmp_path, gateway), token=None)("env")
        assert (ended.code, ended.out) == (1, "")
        assert "extproc login" in ended.err


async def test_proxy_mode_without_a_proxy_and_unknown_names_are_usage_errors(tmp_path: Path) -> None:
    async with telling() as gateway:
        extproc = SignedIn(tmp_path, gateway)
        for arguments in (("--mode", "proxy"), ("--client", "emacs"), ("--shell", "csh")):
            ended = await extproc("env", *arguments)
            assert (ended.code, ended.out) == (2, "")


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("no folder")
    async with telling(PROXY, AUTHORITY) as gateway:
        ended = await SignedIn(tmp_path, gateway)("env")
        assert (ended.code, ended.out) == (2, "")
        assert "copilot-extproc: the gateway's authority cannot be written there" in ended.err
        assert "set XDG_CONFIG_HOME" in ended.err
