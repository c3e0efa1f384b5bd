from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extproc.console.app import PAGES
from tests.console.desk import Desk, opened

GETS = [one.path for one in PAGES if one.method == "GET"]
POSTS = [one.path for one in PAGES if one.method == "POST"]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


def at(path: str) -> str:
    return path.replace("{id}", "x1")


@pytest.mark.parametrize("path", GETS)
async def test_who_is_signed_out_is_led_to_the_sign_in_and_back(desk: Desk, path: str) -> None:
    answer = await desk.get(f"{at(path)}?a=1%262", None)
    assert answer.status_code == 303
    wanted = at(path).replace("/", "%2F")
    assert answer.headers["location"] == f"/sign-in?next={wanted}%3Fa%3D1%25262"


@pytest.mark.parametrize("path", GETS)
async def test_a_live_part_says_that_one_is_signed_out(desk: Desk, path: str) -> None:
    answer = await desk.get(at(path), None, part=True)
    assert (answer.status_code, "signed out" in answer.text, "<html" in answer.text) == (401, True, False)


@pytest.mark.parametrize("path", POSTS)
async def test_a_form_of_somebody_signed_out_does_nothing(desk: Desk, path: str) -> None:
    assert (await desk.post(at(path), None)).status_code == 401


@pytest.mark.parametrize("path", [*GETS, *POSTS])
async def test_who_has_no_role_may_open_nothing_and_is_told_which_they_need(desk: Desk, path: str) -> None:
    answer = await (desk.post if path in POSTS and path not in GETS else desk.get)(at(path), "mallory")
    assert answer.status_code == 403
    assert "This page is for the role" in answer.text


@pytest.mark.parametrize("path", POSTS)
async def test_every_form_needs_the_token_of_the_session(desk: Desk, path: str) -> None:
    answer = await desk.post(at(path), "bob", csrf="another")
    assert (answer.status_code, "not of your session" in answer.text) == (403, True)
