from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

from extproc.logs import JsonLines

# A slow machine is not a failing test; what must be fast is measured by `make bench`. The same examples in every run,
# so that a test fails because of a change; `make fuzz` looks for others.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")


# Tests serve with gRPC and start workers in one process, as the product never does. At each fork gRPC would close what
# it polls, and with bad luck a socket of somebody else that had got the same number since.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


@pytest.fixture(autouse=True)
def _no_log_of_another_test() -> Iterator[None]:
    """Take out what a command that ran in this process had set up: it writes to a file that is closed afterwards."""
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one.formatter, JsonLines)]:
        root.removeHandler(handler)
