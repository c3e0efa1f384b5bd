"""What goes wrong on purpose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Fault:
    """Spoil the next `times` requests that fit, None for all.

    `operation` is `Create`, `Read`, `Replace`, `Delete`, `query`, `metadata`, `batch`, or `write`, which is `Create`
    and `batch`; `contains` is text of the request's body or address. With a `status` that is answered, inside the
    batch's answer where `inside`; else the connection is cut. Before that, `stall` seconds pass; with `commit` and
    `stall` the true answer comes, late. `commit` does the work first.
    """

    operation: str | None = None
    contains: str = ""
    status: int | None = None
    sub_status: int = 0
    retry_after_ms: int | None = None
    inside: bool = False
    commit: bool = False
    stall: float = 0.0
    times: int | None = 1
    used: int = 0

    def fits(self, operation: str, text: str) -> bool:
        write = self.operation == "write" and operation in {"Create", "batch"}
        return self.times != 0 and (write or self.operation in {None, operation}) and self.contains in text

    def use(self) -> None:
        self.used += 1
        if self.times is not None:
            self.times -= 1
