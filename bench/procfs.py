"""What Linux says about processes: proc(5), clock_getcpuclockid(3)."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of all threads of a process since it started, to the nanosecond."""
    # clock_getcpuclockid(3): the number of the clock is made of the process id and CPUCLOCK_SCHED.
    return time.clock_gettime(~pid << 3 | 2)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"process {pid} has no memory: it has ended")
    return int(found[1]) * 1024


def family(pid: int) -> list[int]:
    """Return a process and the children it has now."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found += map(int, thread.read_text().split())
    return found


def waited_seconds() -> float:
    """Return how long this thread has been ready to run without getting a core (Linux, sched-stats.rst)."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def machine_busy_seconds() -> float:
    """Return the CPU time spent by everything on this machine since it started, idling and waiting not counted."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def cpu_model() -> str:
    """Return the name of the processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"
