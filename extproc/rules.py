"""What is the same for all exchanges of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from extproc.dialect.account import AccountDialect
from extproc.dialect.agents import AgentsDialect
from extproc.dialect.chat import ChatDialect
from extproc.dialect.completions import CompletionsDialect
from extproc.dialect.embeddings import EmbeddingsDialect
from extproc.dialect.github import GitHubDialect, GraphqlDialect
from extproc.dialect.json_api import JsonDialect
from extproc.dialect.mcp import McpDialect
from extproc.dialect.messages import MessagesDialect
from extproc.dialect.models import ModelsDialect
from extproc.dialect.port import Dialect
from extproc.dialect.responses import ResponsesDialect
from extproc.endpoint import EndpointKind, Upstream
from extproc.identity.gateway_token import GatewayTokens
from extproc.intercepted import DEFAULT_HOSTS
from extproc.masking.masker import Masking
from extproc.policy import Policy
from extproc.recording.session import Sessions
from extproc.telemetry import Slots

DIALECTS: Mapping[EndpointKind, Dialect] = {
    EndpointKind.CHAT: ChatDialect(),
    EndpointKind.COMPLETIONS: CompletionsDialect(),
    EndpointKind.RESPONSES: ResponsesDialect(),
    EndpointKind.MESSAGES: MessagesDialect(),
    EndpointKind.EMBEDDINGS: EmbeddingsDialect(),
    EndpointKind.AGENTS: AgentsDialect(),
    EndpointKind.MODELS: ModelsDialect(),
    EndpointKind.MCP: McpDialect(),
    EndpointKind.GITHUB: GitHubDialect(),
    EndpointKind.GRAPHQL: GraphqlDialect(),
    EndpointKind.ACCOUNT: AccountDialect(),
    EndpointKind.TELEMETRY: JsonDialect(),
    EndpointKind.METADATA: JsonDialect(),
}

STREAMING = frozenset(
    {
        EndpointKind.CHAT,
        EndpointKind.COMPLETIONS,
        EndpointKind.RESPONSES,
        EndpointKind.MESSAGES,
        EndpointKind.AGENTS,
        EndpointKind.MCP,
    }
)
"""The endpoints that answer with streams of events."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is the same for all exchanges: policy, where upstreams are, bounds in bytes, and the session grouping.

    `intercepted` are the hosts whose tunnels are read (`extproc.intercepted`), `profile` is the JSON that tells clients
    how to sign in (`signin.profile`), `gateway_tokens` mints tokens for clients that exchange theirs, `url` is the base
    address of the gateway where it is not the one that a client asked for; `telemetry` counts what runs of that.
    """

    policy: Policy
    masking: Masking
    upstream_hosts: Mapping[Upstream, str]
    max_request_bytes: int
    max_answer_bytes: int
    max_event_bytes: int
    sessions: Sessions
    intercepted: tuple[str, ...] = DEFAULT_HOSTS
    profile: bytes | None = None
    gateway_tokens: GatewayTokens | None = None
    url: str | None = None
    telemetry: Slots = field(default_factory=Slots)
    dialects: Mapping[EndpointKind, Dialect] = field(default_factory=lambda: DIALECTS)
