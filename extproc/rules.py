"""What is the same for all exchanges of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from extproc.dialect.chat import ChatDialect
from extproc.dialect.port import Dialect
from extproc.endpoint import EndpointKind, Upstream
from extproc.policy import Policy
from extproc.recording.session import Sessions

DIALECTS: Mapping[EndpointKind, Dialect] = {EndpointKind.CHAT: ChatDialect()}


@dataclass(frozen=True, slots=True)
class Rules:
    """What is the same for all exchanges: policy, where upstreams are, bounds in bytes, and the session grouping."""

    policy: Policy
    upstream_hosts: Mapping[Upstream, str]
    max_request_bytes: int
    max_answer_bytes: int
    max_event_bytes: int
    sessions: Sessions
    dialects: Mapping[EndpointKind, Dialect] = field(default_factory=lambda: DIALECTS)
