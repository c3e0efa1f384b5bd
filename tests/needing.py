"""What a test needs of the machine that is not there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def not_tested(why: str) -> NoReturn:
    """Fail in CI, where everything must be there; on a user's machine skip, and say what was not tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(f"NOT TESTED: {why}")
