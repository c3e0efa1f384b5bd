"""The language server behind Copilot in Neovim, JetBrains and others, with a small editor of ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from extproc.client_settings.settings import Client as Kind
from extproc.client_settings.settings import Mode
from tests.clients import install
from tests.clients.access import Access
from tests.clients.client import Client
from tests.clients.lsp import Lsp, Message
from tests.clients.process import Ran

_MODEL = "claude-sonnet-4.6"
_TEXT = {"type": "string", "description": "a text"}


def _package() -> Path | None:
    return install.npm_package(f"@github/copilot-language-server-{install.native()}")


def version() -> str | None:
    """Return the installed version."""
    package = _package()
    return None if package is None else str(json.loads((package / "package.json").read_text())["version"])


def _tool(name: str, *parameters: str) -> dict[str, Any]:
    properties = dict.fromkeys(parameters, _TEXT)
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"name": name, "description": name.replace("_", " "), "inputSchema": schema}


# What an editor offers the agent, by the names and parameters that it knows.
_TOOLS = [
    _tool("create_file", "filePath", "content"),
    _tool("replace_string_in_file", "filePath", "oldString", "newString", "explanation"),
]


class Editor:
    """An open editor, signed in; use `close`."""

    def __init__(self, access: Access) -> None:
        package = _package()
        assert package is not None
        self._work = access.work
        handlers = {
            "conversation/invokeClientTool": self._use_tool,
            "conversation/invokeClientToolConfirmation": lambda _: [{"result": "accept"}, None],
            "conversation/context": lambda _: [None, None],
            "workspace/configuration": lambda params: [{} for _ in params["items"]],
        }
        command = [str(package / "copilot-language-server"), "--stdio"]
        env = access.env(Kind.LANGUAGE_SERVER, {})
        self.lsp = Lsp(command, cwd=access.work, env=env, log=access.home / "client.log", handlers=handlers)
        self._open(env.get("HTTPS_PROXY") if access.mode is Mode.PROXY else None)

    def status(self) -> str:
        """Return what the sign-in came to."""
        return str(self.lsp.call("checkStatus", {})["status"])

    def complete(self, text: str) -> list[str]:
        """Return what is proposed at the end of `text`, the text of a new file."""
        uri = (self._work / "calc.py").as_uri()
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self.lsp.tell("textDocument/didOpen", {"textDocument": document})
        self.lsp.tell("textDocument/didFocus", {"textDocument": {"uri": uri}})
        *before, last = text.split("\n")
        asked = {
            "textDocument": {"uri": uri, "version": 1},
            "position": {"line": len(before), "character": len(last)},
            "context": {"triggerKind": 2},
            "formattingOptions": {"tabSize": 4, "insertSpaces": True},
        }
        return [item["insertText"] for item in self.lsp.call("textDocument/inlineCompletion", asked)["items"]]

    def close(self) -> None:
        """Close the editor."""
        self.lsp.close()

    def _open(self, proxy: str | None) -> None:
        asked = {
            "processId": os.getpid(),
            "workspaceFolders": [{"uri": self._work.as_uri(), "name": "work"}],
            "capabilities": {"workspace": {"workspaceFolders": True, "configuration": True}},
            "initializationOptions": {
                "editorInfo": {"name": "Neovim", "version": "0.10.0"},
                "editorPluginInfo": {"name": "copilot.lua", "version": "1.43.0"},
            },
        }
        self.lsp.call("initialize", asked)
        self.lsp.tell("initialized", {})
        settings = {} if proxy is None else {"http": {"proxy": proxy, "proxyStrictSSL": True}}
        self.lsp.tell("workspace/didChangeConfiguration", {"settings": settings})

    def _use_tool(self, params: Any) -> Any:
        said = params["input"]
        path = Path(said["filePath"])
        match params["name"]:
            case "create_file":
                path.write_text(said["content"])
            case "replace_string_in_file":
                path.write_text(path.read_text().replace(said["oldString"], said["newString"]))
        return [{"status": "success", "content": [{"value": "done"}]}, None]


class Conversation:
    """An agent's turn in an editor of its own."""

    def __init__(self, access: Access, prompt: str) -> None:
        self._editor = Editor(access)
        self._lsp = self._editor.lsp
        folder = {"uri": access.work.as_uri(), "name": "work"}
        self._lsp.call("conversation/registerTools", {"tools": _TOOLS})
        asked = {
            "workDoneToken": "turn",
            "turns": [{"request": prompt}],
            "capabilities": {"allSkills": False, "skills": []},
            "chatMode": "Agent",
            "needToolCallConfirmation": False,
            "source": "panel",
            "model": _MODEL,
            "workspaceFolder": folder["uri"],
            "workspaceFolders": [folder],
        }
        # Answered when the turn is over.
        self._turn = self._lsp.ask("conversation/create", asked)

    def is_running(self) -> bool:
        """Say whether the end of the turn was not heard yet."""
        self._lsp.hear()
        return not any(map(self._ends, self._lsp.heard))

    def output(self) -> str:
        """Return what an editor shows: the state of the sign-in, the text piece by piece, and errors."""
        return "".join(_shown(message) for message in self._lsp.heard)

    def wait(self, seconds: float) -> Ran:
        """Wait for the end of the turn."""
        self._lsp.until(self._ends, "the end of the turn", seconds)
        return Ran(0, f"{self.output()}\n")

    def _ends(self, message: Message) -> bool:
        is_end = message.get("method") == "$/progress" and message["params"].get("value", {}).get("kind") == "end"
        return is_end or (message.get("id") == self._turn and "error" in message)

    def kill(self) -> None:
        """Close the editor."""
        self._editor.close()


def _shown(message: Message) -> str:
    if "error" in message:
        return f"\n{message['error']['message']}\n"
    match message.get("method"):
        case "didChangeStatus":
            return f"\n{message['params'].get('message') or ''}\n"
        case "$/progress":
            value = message["params"]["value"]
            rounds = "".join(one.get("reply") or "" for one in value.get("editAgentRounds") or ())
            return f"{value.get('reply') or ''}{rounds}{(value.get('error') or {}).get('message') or ''}"
    return ""


CLIENTS = (Client("language server, agent", version, Conversation),)
