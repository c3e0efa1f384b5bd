"""Other proxies that do a part of the same job: mitmproxy and LiteLLM, run from virtual environments of their own.

`make bench-peers` makes these; nothing of them is imported here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import yaml

_HERE: Final = Path(__file__).parent
_PEERS: Final = _HERE.parent / ".peers"
_LITELLM_BACKGROUND: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is asked of the network
    "DISABLE_ADMIN_UI": "True",
}

_COMMANDS: Final = {
    "mitmproxy": _PEERS / "mitmproxy" / "bin" / "mitmdump",
    "litellm": _PEERS / "litellm" / "bin" / "litellm",
}

RECORD: Final = "record.jsonl"
"""Where both append the exchanges, in their state directories."""


def installed(name: str) -> bool:
    """Return whether a peer is installed in its virtual environment."""
    return _COMMANDS[name].exists()


def version(name: str) -> str:
    """Return the version of a peer that is installed."""
    (found,) = (_PEERS / name / "lib").glob(f"python*/site-packages/{name}-*.dist-info")
    return found.name.removesuffix(".dist-info").removeprefix(f"{name}-")


def mitmproxy(port: int, upstream: int) -> list[str]:
    """Return the command line of mitmproxy as a reverse proxy that masks and records."""
    return [
        str(_COMMANDS["mitmproxy"]),
        *("--mode", f"reverse:http://127.0.0.1:{upstream}@127.0.0.1:{port}"),
        *("--set", "confdir=.", "--set", "flow_detail=0", "--quiet"),
        *("--scripts", str(_HERE / "peer_mitmproxy.py")),
    ]


def litellm(state: Path, port: int, upstream: int) -> list[str]:
    """Configure LiteLLM's proxy for the upstream, with a recording callback; return its command line."""
    shutil.copy(_HERE / "peer_litellm.py", state)
    backend = {"model": "openai/gpt-5", "api_base": f"http://127.0.0.1:{upstream}", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "gpt-5", "litellm_params": backend}],
        "litellm_settings": {"callbacks": ["peer_litellm.recorder"], "telemetry": False},
        "general_settings": {
            # The request says in a header which answer it wants.
            "forward_client_headers_to_llm_api": True,
            # It knows nobody of ours, so it lets everybody in.
            "dangerously_permit_weak_or_unset_master_key": True,
        },
    }
    (state / "litellm.yaml").write_text(yaml.safe_dump(config))
    command = [str(_COMMANDS["litellm"]), "--config", "litellm.yaml", "--telemetry", "False"]
    # env(1) becomes the command, with the same process id.
    environ = [f"{name}={value}" for name, value in _LITELLM_BACKGROUND.items()]
    return ["env", *environ, *command, "--host", "127.0.0.1", "--port", str(port)]


def recorded(state: Path) -> int:
    """Return how many exchanges a peer has appended."""
    with (state / RECORD).open("rb") as lines:
        return sum(1 for _ in lines)


def same_text(body: bytes, scripted: bytes) -> bool:
    """Return whether two answers say the same: LiteLLM writes its own around the text."""
    return _text(body) == _text(scripted) != ""


def _text(body: bytes) -> str:
    if not body.startswith(b"data: "):
        content: str = json.loads(body)["choices"][0]["message"]["content"]
        return content
    events = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: {")]
    deltas: list[dict[str, Any]] = [choice["delta"] for event in events for choice in json.loads(event)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)
