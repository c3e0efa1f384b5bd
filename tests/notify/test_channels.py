from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from extproc.approval.approval import Approval, State
from extproc.approval.touch import Act, Touch
from extproc.errors import ConfigError
from extproc.notify.channels import load, text_of
from extproc.notify.notice import NotSent, notice_of
from tests.approving import TOUCH, request

LINK = "https://console.example/approvals/{id}"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


class Service:
    """Be what apprise speaks to: its plain JSON service."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[dict[str, Any]] = []
        self.url = ""

    async def handle(self, asked: web.Request) -> web.Response:
        self.got.append(await asked.json())
        return web.Response(status=self.status)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_post("/s3cret", made.handle)
    async with TestServer(app) as server:
        made.url = f"json://127.0.0.1:{server.port}/s3cret"
        yield made


async def test_a_notice_reaches_the_service_of_each_line(
    service: Service, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    (tmp_path / "apprise").write_text(f"# ours\n\n{service.url}\n  {service.url}  \n")
    channels = load(tmp_path / "apprise", threads)
    assert [one.name for one in channels] == ["apprise_file line 3", "apprise_file line 4"]
    for one in channels:
        await one.send(notice_of(Approval(request(), State.PENDING), LINK))
    assert [one["title"] for one in service.got] == ["Approval requested: privileged"] * 2
    assert "infra/prod.tf" in service.got[0]["message"]
    assert "https://console.example/approvals/a1" in service.got[0]["message"]


async def test_the_event_loop_goes_on_while_a_service_is_slow(
    service: Service, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    # The service itself runs in this loop: were the call made here, it could never be answered.
    (tmp_path / "apprise").write_text(service.url)
    (channel,) = load(tmp_path / "apprise", threads)
    notices = [notice_of(Approval(request(f"a{n}"), State.EXPIRED), None) for n in range(3)]
    await asyncio.wait_for(asyncio.gather(*(channel.send(one) for one in notices)), 20)
    assert {one["title"] for one in service.got} == {"Approval expired: privileged"}


async def test_a_service_that_refuses_fails_without_another_try_and_without_its_url_anywhere(
    service: Service,
    threads: ThreadPoolExecutor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    service.status = 500
    (tmp_path / "apprise").write_text(service.url)
    (channel,) = load(tmp_path / "apprise", threads)
    with pytest.raises(NotSent, match="did not take it") as caught:
        await channel.send(notice_of(Approval(request(), State.PENDING), None))
    assert not caught.value.again
    assert len(service.got) == 1
    assert "s3cret" not in f"{caught.value} {caplog.text} {capfd.readouterr()}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# nothing\n", "no URL in it"),
        ("json://127.0.0.1/ok\nnosuch://s3cret\n", ":2: expected an apprise URL"),
        ("slack://s3cret\n", ":1: expected an apprise URL"),
        ("s3cret\n", ":1: expected an apprise URL"),
        ("\xff", "not UTF-8"),
        ("#" * 65_537, "larger than 65536 bytes"),
        (None, "cannot be read"),
    ],
)
def test_a_fault_of_the_file_is_told_by_its_line_and_never_by_what_is_on_it(
    tmp_path: Path,
    threads: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    text: str | None,
    said: str,
) -> None:
    if text is not None:
        (tmp_path / "apprise").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path / "apprise", threads)
    assert "s3cret" not in f"{caught.value} {caplog.text} {capfd.readouterr()}"


def test_people_are_told_what_is_touched_until_when_and_where_to_answer() -> None:
    merge = Touch(Act.MERGE, "mutation mergePullRequest", None, "acme/site", "main")
    anything = Touch(Act.SHELL, "bash")
    title, body = text_of(notice_of(Approval(request(touches=(TOUCH, merge, anything)), State.PENDING), LINK))
    assert title == "Approval requested: privileged"
    assert body.splitlines() == [
        "alice asks for:",
        "- edit infra/prod.tf (edit)",
        "- merge acme/site main (mutation mergePullRequest)",
        "- shell anything (bash)",
        "Until 2025-10-09 09:08:20 UTC.",
        "https://console.example/approvals/a1",
    ]


def test_without_a_link_the_command_is_named_and_of_many_touches_how_many_are_left_out() -> None:
    _, body = text_of(notice_of(Approval(request(touches=(TOUCH,) * 1000), State.APPROVED), None))
    assert body.splitlines()[0] == "alice asked for:"
    assert body.splitlines()[-2:] == ["- and 990 more", "extproc approvals show a1"]


@pytest.mark.parametrize(
    "path", ["<https://evil.example|Approve>", "[Approve](https://evil.example)", "<!channel>", "@here", "a\n\nb\u202e"]
)
def test_no_path_or_name_brings_markup_mentions_or_lines_into_a_channel(path: str) -> None:
    asked = request(name=path, touches=(Touch(Act.EDIT, path, path, path, path),))
    _, body = text_of(notice_of(Approval(asked, State.PENDING), LINK))
    assert len(body.splitlines()) == 4
    assert not any(sign in "".join(body.splitlines()[:2]).removesuffix(")") for sign in "<>[]@!|\u202e")
    assert "://" not in "".join(body.splitlines()[:2])


def test_apprise_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, extproc.notify.channels; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own interpreter
