"""Tests of one simulation that end with the first failure, for runs where one is enough."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["fail_fast"]

_failed = False  # one test of this simulation has


def fail_fast(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., Coroutine[Any, Any, None]]:
    """Let a test fail at once where one before failed and ``HALUT_FAIL_FAST`` is 1."""

    @functools.wraps(test)
    async def run(*arguments: Any, **named: Any) -> None:
        global _failed
        if _failed and os.environ.get("HALUT_FAIL_FAST") == "1":
            raise AssertionError("a test before failed")
        passed = False
        try:
            await test(*arguments, **named)
            passed = True
        finally:
            _failed = _failed or not passed

    return run
