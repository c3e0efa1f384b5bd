from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.doctor.check import Status
from extproc.doctor.inside import outlives
from extproc.doctor.mounts import kind_of

# The form is of proc_pid_mountinfo(5).
POD = r"""21 1 0:20 / / ro,relatime - overlay overlay rw,lowerdir=/a
30 21 0:30 / /proc rw - proc proc rw
31 21 8:16 / /var/lib/extproc rw,relatime shared:1 master:2 - ext4 /dev/sdb rw
32 21 0:40 / /run/extproc rw - tmpfs tmpfs rw
33 21 8:17 / /with\040space rw - xfs /dev/sdc rw
34 31 0:41 / /var/lib/extproc/spool rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "overlay"),
        ("/var/lib", "overlay"),
        ("/var/lib/extproc", "ext4"),
        ("/var/lib/extproc/keys", "ext4"),
        ("/var/lib/extproc-other", "overlay"),
        ("/var/lib/extproc/spool/log", "tmpfs"),
        ("/run/extproc", "tmpfs"),
        ("/with space/x", "xfs"),
    ],
)
def test_the_innermost_mount_counts(folder: str, kind: str) -> None:
    assert kind_of(Path(folder), POD) == kind


def test_of_two_mounts_at_one_place_the_later_counts() -> None:
    assert kind_of(Path("/run/extproc"), POD + "35 32 8:1 / /run/extproc rw - ext4 /dev/sdd rw\n") == "ext4"


@given(st.text())
def test_any_text_gives_an_answer(text: str) -> None:
    kind_of(Path("/var/lib"), text)


@pytest.mark.parametrize(
    ("kind", "status"), [("ext4", "ok"), ("nfs4", "ok"), ("tmpfs", "failed"), ("overlay", "failed")]
)
def test_memory_and_the_containers_own_layer_do_not_outlive_it(tmp_path: Path, kind: str, status: str) -> None:
    assert outlives(tmp_path, kind).status == status


def test_what_is_not_known_or_not_there_is_not_ok(tmp_path: Path) -> None:
    assert outlives(tmp_path, None).status is Status.FAILED
    assert outlives(tmp_path / "none", "ext4").status is Status.FAILED
