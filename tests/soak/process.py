"""What a process holds: memory and open files, from Linux's /proc."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from bench import procfs


def descriptors(process: int) -> int:
    """Return how many files and sockets a process and those that it started have open."""
    return sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in procfs.family(process))


@dataclass
class Watch:
    """Memory over time: pairs of how much was done, and the bytes that were held then."""

    process: int
    samples: list[tuple[int, int]] = field(default_factory=list)

    async def run(self, every: float, done: dict[str, int]) -> None:
        """Sample until cancelled."""
        while True:
            held = sum(map(procfs.rss_bytes, procfs.family(self.process)))
            self.samples.append((sum(done.values()), held))
            await asyncio.sleep(every)

    def growth(self) -> tuple[float, int]:
        """Return the bytes by which memory grew from the second quarter to the last, and how much was done between.

        Medians, because single samples depend on what happened to run; the first quarter fills caches and pools.
        """
        quarter = len(self.samples) // 4
        assert quarter >= 2, "too short to say anything"
        second, last = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        grown = statistics.median(held for _, held in last) - statistics.median(held for _, held in second)
        return grown, last[0][0] - second[0][0]

    def course(self) -> list[int]:
        """Return the memory of each tenth of the time, in MiB."""
        tenth = max(1, len(self.samples) // 10)
        starts = range(0, len(self.samples), tenth)
        return [round(statistics.median(held for _, held in self.samples[at : at + tenth])) >> 20 for at in starts]
