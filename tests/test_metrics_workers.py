from __future__ import annotations

import os
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from extproc.metrics_workers import Numbers, Reason, Supervised
from tests.metrics_of import Samples, parsed

BUCKETS = ("1.0", "+Inf")


def counted(folder: Path, process: int, count: float) -> None:
    """Have a process count, in the files that prometheus_client makes."""
    for kind, name, labels in [
        ("counter", "exchanges_total", {"endpoint": "chat"}),
        ("counter", "exchanges_total", {"endpoint": f"only-{process}"}),
        ("histogram", "wait_sum", {}),
        *(("histogram", "wait_bucket", {"le": bound}) for bound in BUCKETS),
        ("gauge_livesum", "open", {}),
        ("gauge_livemax", "age", {}),
    ]:
        one = MmapedDict(str(folder / f"{kind}_{process}.db"))  # type: ignore[no-untyped-call]
        family = name.removesuffix("_sum").removesuffix("_bucket").removesuffix("_total")
        key = mmap_key(family, name, list(labels), list(labels.values()), "Says.")
        one.write_value(key, count, 0.0)  # type: ignore[no-untyped-call]
        one.close()  # type: ignore[no-untyped-call]


def told(numbers: Numbers) -> Samples:
    return parsed(numbers.render().decode())


def test_what_processes_counted_that_ended_is_kept_in_one_place(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path, Supervised())
    us, dead = os.getpid(), [(1 << 22) + number for number in range(3)]  # no Linux has such ids (proc(5), pid_max)
    counted(tmp_path, os.getppid(), 1)
    for process in dead:
        counted(tmp_path, process, 10)
    before = told(numbers)
    assert before["exchanges_total", ("chat",)] == 31
    assert before["wait_count", ()] == 2 * 31
    for process in dead:
        numbers.left_by(process)
        found = told(numbers)
        assert {sample: found[sample] for sample in before} == before
    names = sorted(path.name for path in tmp_path.iterdir())
    kinds = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
    assert names == sorted([f"{kind}_{us}.db" for kind in kinds[:2]] + [f"{kind}_{os.getppid()}.db" for kind in kinds])


def test_one_that_left_no_numbers_changes_nothing(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path, Supervised())
    counted(tmp_path, os.getppid(), 1)
    before = told(numbers)
    numbers.left_by(1 << 22)
    assert told(numbers) == before


def test_an_earlier_run_is_not_counted(tmp_path: Path) -> None:
    for process in (1 << 22, os.getpid()):
        counted(tmp_path, process, 10)
    assert ("exchanges_total", ("chat",)) not in told(Numbers(tmp_path, Supervised()))


def test_the_supervisor_tells_how_many_there_are_and_why_they_were_started_anew(tmp_path: Path) -> None:
    supervised = Supervised(lambda: {"serving": 2, "leaving": 1})
    supervised.restarts[Reason.ROLL] += 3
    found = told(Numbers(tmp_path, supervised))
    assert found == {
        ("extproc_worker_restarts_total", ("died",)): 0,
        ("extproc_worker_restarts_total", ("hung",)): 0,
        ("extproc_worker_restarts_total", ("roll",)): 3,
        ("extproc_workers", ("serving",)): 2,
        ("extproc_workers", ("leaving",)): 1,
    }
