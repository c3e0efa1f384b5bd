"""The OpenAI and Anthropic SDKs, each in a small agent of ours that runs the tools the model calls."""

from __future__ import annotations

import importlib.metadata
import sys
from functools import partial

from extproc.client_settings.settings import Client as Kind
from tests.clients.client import Client, program
from tests.clients.install import ROOT


def _command(prompt: str, agent: str) -> list[str]:
    return [sys.executable, "-m", f"tests.clients.programs.{agent}", prompt]


def _client(name: str, kind: Kind, agent: str) -> Client:
    version = partial(importlib.metadata.version, str(kind))
    start = program(kind, partial(_command, agent=agent), lambda: {"PYTHONPATH": str(ROOT)})
    return Client(name, version, start, quick=True)


CLIENTS = (
    _client("OpenAI SDK, `/chat/completions`", Kind.OPENAI, "openai_chat_agent"),
    _client("OpenAI SDK, `/responses`", Kind.OPENAI, "openai_responses_agent"),
    _client("Anthropic SDK", Kind.ANTHROPIC, "anthropic_agent"),
)
