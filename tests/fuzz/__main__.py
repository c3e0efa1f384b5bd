"""Fuzz everything that reads what others wrote: `python -m tests.fuzz --seconds 60`, each target for so long."""

from __future__ import annotations

import argparse
import secrets
import sys

from tests.fuzz.runner import TARGETS, run


def main() -> int:
    """Run the targets, print what was tried; return 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Try mutated inputs on all parsers.")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default 60)")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="may be repeated (default: all)")
    parser.add_argument("--seed", type=int, help="repeats a run (default: another one each time)")
    parser.add_argument("--only", type=int, help="try the one input of this number")
    given = parser.parse_args()
    seed = secrets.randbelow(2**32) if given.seed is None else given.seed
    _say(f"seed {seed}")
    failed = 0
    for name in given.target or TARGETS:
        count, failure = run(name, seed, seconds=given.seconds, only=given.only)
        _say(f"{name:12} {count:>8} inputs  {'ok' if failure is None else 'FAILED'}")
        if failure is not None:
            failed += 1
            _say(failure.report)
    return int(failed > 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
