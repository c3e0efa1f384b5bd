from __future__ import annotations

import logging
from collections.abc import Iterator

import hypothesis
import pytest

from extproc.logs import JsonLines

# A slow machine is not a failing test; what must be fast is measured by `make bench`. The same examples in every run,
# so that a test fails because of a change; `make fuzz` looks for others.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(autouse=True)
def _no_log_of_another_test() -> Iterator[None]:
    """Take out what a command that ran in this process had set up: it writes to a file that is closed afterwards."""
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one.formatter, JsonLines)]:
        root.removeHandler(handler)
