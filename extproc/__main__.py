"""Run `extproc`, also as `python -m extproc`."""

from __future__ import annotations

from extproc.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
