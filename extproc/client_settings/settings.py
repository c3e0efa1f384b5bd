"""What each client must be told to reach the gateway: just the settings it needs, measured with real clients. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any, Final, assert_never
from urllib.parse import quote, urlsplit

from extproc.errors import ConfigError
from extproc.secret import Secret
from extproc.signin.profile import Profile


class Client(StrEnum):
    """The clients that are known here; all others are told by the SDK they are built on."""

    COPILOT_CLI = "copilot-cli"
    LANGUAGE_SERVER = "language-server"
    VSCODE = "vscode"
    OPENCODE = "opencode"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Mode(StrEnum):
    """How a client reaches the gateway: by its base URL, or through the forward proxy."""

    URL = "url"
    PROXY = "proxy"


PROXY_USER: Final = "extproc"
"""The user of a proxy URL; the gateway reads the password only."""

# Copilot CLI wants a token that begins like GitHub's before it sends anything; in proxy mode the password of the proxy
# says who is calling, so this one says that it is none.
_NO_TOKEN = "gho_none-the-gateway-adds-the-credential"  # noqa: S105 - it is none
_NO_PROXY = "127.0.0.1,localhost,::1"
_COPILOT_API = "https://api.githubcopilot.com"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client needs.

    `variables` are environment variables, which may hold the token, hence no repr; `documents` are members for a
    settings file of the client's, by the name of that file; `notes` are sentences for people, one line each.
    """

    variables: Mapping[str, str] = field(repr=False)
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """The files of the gateway's authority.

    `added` is for clients that trust it beside what they have, `bundle` for those that it replaces; `replaced` are
    variables that name another such bundle already.
    """

    added: PurePath
    bundle: PurePath
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proxy:
    """The address of a forward proxy; `scheme` is http or https, `host` has no brackets."""

    scheme: str
    host: str
    port: int


def proxy_of(profile: Profile) -> Proxy:
    """Return the gateway's forward proxy; raises ConfigError where the profile names none, or none that can be."""
    if profile.proxy is None:
        raise ConfigError(f"--mode proxy: the gateway {profile.gateway} names no forward proxy; use --mode url")
    fault = ConfigError("the gateway's profile: proxy must be http://HOST:PORT or https://HOST:PORT")
    try:
        parts = urlsplit(profile.proxy)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise fault from None
    if not host or parts.scheme not in {"http", "https"} or "@" in parts.netloc or parts.path.strip("/"):
        raise fault
    return Proxy(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))


def settings_for(
    clients: Iterable[Client], mode: Mode, profile: Profile, token: Secret, trust: Trust | PurePath | None
) -> Settings:
    """Return what `clients` need together to reach the gateway of `profile` as whom `token` says.

    `trust` names the profile's authority, a path where one file is all, None where the profile has none. Raises
    ConfigError in proxy mode where the profile names no proxy.
    """
    files = Trust(trust, trust) if isinstance(trust, PurePath) else trust
    parts = [_settings(client, mode, profile, token, files) for client in dict.fromkeys(clients)]
    return Settings(
        {name: value for part in parts for name, value in part.variables.items()},
        {name: members for part in parts for name, members in part.documents.items()},
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _settings(client: Client, mode: Mode, profile: Profile, token: Secret, trust: Trust | None) -> Settings:
    if mode is Mode.PROXY:
        return _by_proxy(client, _proxy_url(profile, token), trust)
    return _by_url(client, profile.gateway.rstrip("/"), token.reveal(), trust)


# --- URL mode --------------------------------------------------------------------------------------------------------


def _by_url(client: Client, gateway: str, token: str, files: Trust | None) -> Settings:
    trust = _trust(client, files if urlsplit(gateway).scheme == "https" else None)
    match client:
        case Client.COPILOT_CLI:
            # GH_TOKEN would do, but `gh` reads it too and would send the gateway's token to GitHub.
            names = {
                "COPILOT_API_URL": gateway,
                # It drops the path of this one.
                "COPILOT_DEBUG_GITHUB_API_URL": _root(gateway),
                "COPILOT_GITHUB_TOKEN": f"gho_{token}",
            }
            return Settings({**names, **trust}, notes=(*_EXPIRES, _own_key(gateway)))
        case Client.LANGUAGE_SERVER:
            # It takes no address of the Copilot API: it learns that from the gateway's answer with its token.
            names = {"GH_COPILOT_TOKEN": token, "GH_COPILOT_API_URL": gateway, "GH_COPILOT_SERVER_URL": gateway}
            return Settings({**names, **trust}, notes=_EXPIRES)
        case Client.VSCODE:
            overrides = {"debug.overrideCapiUrl": gateway, "debug.overrideProxyUrl": gateway}
            return Settings(trust, {"settings.json": {"github.copilot.advanced": overrides}}, (_VSCODE_OWN_TOKEN,))
        case Client.OPENCODE:
            provider = {"provider": {"github-copilot": {"options": {"baseURL": gateway}}}}
            names = {"OPENCODE_CONFIG_CONTENT": _json(provider), "OPENCODE_AUTH_CONTENT": _opencode_auth(token)}
            return Settings({**names, **trust}, notes=(*_EXPIRES, _OPENCODE_MODELS))
        case Client.OPENAI:
            return Settings({"OPENAI_BASE_URL": f"{gateway}/v1", "OPENAI_API_KEY": token, **trust}, notes=_EXPIRES)
        case Client.ANTHROPIC:
            # The key goes before ANTHROPIC_AUTH_TOKEN, so one that is already set does not win; the SDK adds `/v1`.
            return Settings({"ANTHROPIC_BASE_URL": gateway, "ANTHROPIC_API_KEY": token, **trust}, notes=_EXPIRES)
        case _:
            assert_never(client)


_EXPIRES = (
    "The token expires. A running client keeps it: print the settings again and restart it, or use `extproc run`.",
)
_VSCODE_OWN_TOKEN = (
    "In URL mode VS Code sends the token of its own GitHub sign-in, which the gateway refuses: prefer --mode proxy."  # noqa: S105
)
_OPENCODE_MODELS = (
    "In URL mode opencode asks GitHub itself for the list of models, else it uses the one it has: prefer --mode proxy."
)


def _own_key(gateway: str) -> str:
    return (
        "Without the clothes of a GitHub token, and always fresh:"
        f" COPILOT_PROVIDER_BASE_URL={gateway}/v1 COPILOT_PROVIDER_API_KEY_COMMAND='extproc token' COPILOT_MODEL=..."
    )


# --- proxy mode ------------------------------------------------------------------------------------------------------


def _by_proxy(client: Client, proxy: str, files: Trust | None) -> Settings:
    # Both spellings: many programs let the small one win, and it may be set already.
    names = {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": _NO_PROXY, "no_proxy": _NO_PROXY}
    names |= _trust(client, files)
    match client:
        case Client.COPILOT_CLI:
            return Settings({**names, "COPILOT_GITHUB_TOKEN": _NO_TOKEN}, notes=_ALL_TRAFFIC)
        case Client.LANGUAGE_SERVER:
            document = {"settings of workspace/didChangeConfiguration": {"http": _lsp_http(proxy)}}
            return Settings({**names, "GH_COPILOT_TOKEN": _NO_TOKEN}, document, _ALL_TRAFFIC)
        case Client.VSCODE:
            document = {"settings.json": _vscode(proxy)}
            return Settings(names, document, (*_ALL_TRAFFIC, *_VSCODE_PROXY))
        case Client.OPENCODE:
            return Settings({**names, "OPENCODE_AUTH_CONTENT": _opencode_auth(_NO_TOKEN)}, notes=_ALL_TRAFFIC)
        case Client.OPENAI:
            # The proxy reads GitHub's hosts only, so the SDK is sent to one of them.
            own = {"OPENAI_BASE_URL": f"{_COPILOT_API}/v1", "OPENAI_API_KEY": _NO_TOKEN}
            return Settings({**names, **own}, notes=_ALL_TRAFFIC)
        case Client.ANTHROPIC:
            own = {"ANTHROPIC_BASE_URL": _COPILOT_API, "ANTHROPIC_API_KEY": _NO_TOKEN}
            return Settings({**names, **own}, notes=_ALL_TRAFFIC)
        case _:
            assert_never(client)


_ALL_TRAFFIC = (
    # `extproc run` gives a password that does not, and prints no notes.
    *_EXPIRES,
    "All HTTPS of programs with these settings goes to the gateway, which refuses hosts that are not listed there.",
)
_VSCODE_PROXY = (
    "VS Code: the members for settings.json are printed by --shell json; its sign-in with GitHub stays as it is.",
    "VS Code: the gateway's authority must be trusted by the system too; with `extproc run` use `code --wait`.",
)


def _proxy_url(profile: Profile, password: Secret) -> str:
    proxy = proxy_of(profile)
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"{proxy.scheme}://{PROXY_USER}:{quote(password.reveal(), safe='')}@{host}:{proxy.port}"


def _lsp_http(proxy: str) -> dict[str, Any]:
    return {"proxy": proxy, "proxyStrictSSL": True}


def _vscode(proxy: str) -> dict[str, Any]:
    # Electron's own network stack asks the person for a proxy's password; Node's takes it from the URL.
    fetchers = {"debug.useElectronFetcher": False, "debug.useNodeFetcher": True}
    common = {"http.proxy": proxy, "http.proxySupport": "override", "http.proxyStrictSSL": True}
    return {**common, "github.copilot.advanced": fetchers}


# --- parts -----------------------------------------------------------------------------------------------------------


def _trust(client: Client, files: Trust | None) -> dict[str, str]:
    """Name the authority as Node does, which adds it; what Python and Rust read replaces the others: it has them."""
    if files is None:
        return {}
    replacing = ("SSL_CERT_FILE",) if client in {Client.OPENAI, Client.ANTHROPIC} else ()
    bundle = dict.fromkeys((*replacing, *files.replaced), str(files.bundle))
    return {"NODE_EXTRA_CA_CERTS": str(files.added), **bundle}


def _root(gateway: str) -> str:
    parts = urlsplit(gateway)
    return f"{parts.scheme}://{parts.netloc}"


def _opencode_auth(token: str) -> str:
    # `expires: 0` is what opencode writes for a token that does not.
    return _json({"github-copilot": {"type": "oauth", "refresh": token, "access": token, "expires": 0}})


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
