"""What is the same for all exchanges of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
from extproc.masking.masker import Masking
from extproc.policy import Policy
from extproc.recording.session import Sessions

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

MODEL_ENDPOINTS = frozenset(
    {
        EndpointKind.CHAT,
        EndpointKind.COMPLETIONS,
        EndpointKind.RESPONSES,
        EndpointKind.MESSAGES,
        EndpointKind.EMBEDDINGS,
        EndpointKind.AGENTS,
    }
)
"""The endpoints behind which a model answers; their clients show the message of a 422 and do not sign in again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is the same for all exchanges: policy, where upstreams are, bounds in bytes, and the session grouping."""

    policy: Policy
    masking: Masking
    upstream_hosts: Mapping[Upstream, str]
    max_request_bytes: int
    max_answer_bytes: int
    max_event_bytes: int
    sessions: Sessions
    dialects: Mapping[EndpointKind, Dialect] = field(default_factory=lambda: DIALECTS)
