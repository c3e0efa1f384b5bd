from __future__ import annotations

import pytest

from extproc.errors import ConfigError
from extproc.secret import Secret
from extproc.store.cosmos import CosmosSettings, async_client, client


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"not 'account\.documents'"):
        CosmosSettings("account.documents", key=Secret("x"))


def test_tokens_are_not_sent_over_plain_http() -> None:
    with pytest.raises(ConfigError, match="not https"):
        CosmosSettings("http://127.0.0.1:1")
    CosmosSettings("http://127.0.0.1:1", key=Secret("x"))


def test_without_key_and_identity_there_is_no_client() -> None:
    for make in (async_client, client):
        with pytest.raises(ConfigError, match="a key or an identity"):
            make(CosmosSettings("https://127.0.0.1:1"), None)


def test_settings_do_not_show_the_key() -> None:
    assert "hush" not in repr(CosmosSettings("https://127.0.0.1:1", key=Secret("hush")))
