"""Make LiteLLM's proxy record: append every exchange to `record.jsonl` in the folder that it runs in.

Its configuration names `recorder`. It runs in LiteLLM's own environment.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger  # type: ignore[import-not-found, unused-ignore]


class Recorder(CustomLogger):  # type: ignore[misc, unused-ignore] # it has no types where it is not installed
    """Append what LiteLLM tells of an exchange: what was asked, and the answer, put together where it was streamed."""

    def __init__(self) -> None:
        super().__init__()
        # Open as long as the process.
        self._record = Path("record.jsonl").open("a", encoding="utf-8")  # noqa: SIM115

    async def async_log_success_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,  # noqa: ANN401 - its types are not installed here
        start_time: datetime,
        end_time: datetime,
    ) -> None:
        """Append the exchange."""
        line = {
            "from": start_time.timestamp(),
            "until": end_time.timestamp(),
            "model": kwargs.get("model"),
            "messages": kwargs.get("messages"),
            "answer": response_obj.model_dump(mode="json"),
        }
        self._record.write(json.dumps(line) + "\n")
        self._record.flush()


recorder = Recorder()
