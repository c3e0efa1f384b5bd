"""An agent on the Copilot SDK: `python copilot_sdk_agent.py MODEL PROMPT`, with all settings in the environment.

It runs in the SDK's own environment, so it imports nothing of ours.
"""

# ruff: noqa: T201 - a client shows what it is told
from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from copilot import CopilotClient  # type: ignore[import-not-found]
from copilot.session import PermissionHandler  # type: ignore[import-not-found]

WAIT_SECONDS = 100


async def main(model: str, prompt: str) -> None:
    """Ask once and show every message of the assistant."""
    async with (
        CopilotClient(github_token=os.environ["COPILOT_GITHUB_TOKEN"]) as client,
        await client.create_session(on_permission_request=PermissionHandler.approve_all, model=model) as session,
    ):
        session.on(show)
        await session.send_and_wait(prompt, timeout=WAIT_SECONDS)


def show(event: Any) -> None:
    """Print what an application would show."""
    text = getattr(event.data, "content", None)
    if str(event.type).endswith("ASSISTANT_MESSAGE") and text:
        print(text, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
