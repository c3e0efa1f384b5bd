from __future__ import annotations

import re
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from extproc.store import cosmos_search
from extproc.store.cosmos_layout import INDEXING_POLICY
from extproc.store.cosmos_search import Query
from extproc.store.port import FindingSearch, Search
from extproc.store.searching import glob
from tests.cosmos import sql

texts = st.text(st.sampled_from("ab*/.'\"\\%_é\n"), max_size=8)


@given(texts, texts)
def test_whatever_fits_a_glob_is_found(pattern: str, text: str) -> None:
    query = Query([])
    query.conditions.append(query.glob('c["x"]', pattern))
    parsed = sql.parse(query.text("*", "ASC"))
    values = {f"@{name}": value for name, value in query.values.items()}
    found = list(parsed.run([{"_rid": "1", "at": 1, "x": text}], values))
    assert found or not glob(pattern)(text)
    if "*" not in pattern:
        assert bool(found) == (pattern == text)


@given(
    st.builds(
        Search, **{name: st.none() | texts for name in ("user", "principal", "group", "model", "repository", "path")}
    )
)
def test_nothing_that_is_searched_for_gets_into_the_query(search: Search) -> None:
    assert not re.search(r"[é\n%\\]", cosmos_search.exchanges(search).text("*", "ASC"))


def test_all_that_is_searched_and_ordered_by_is_indexed() -> None:
    everything = Search(**{one.name: "a*b" for one in fields(Search)} | {"since": 1.0, "until": 2.0})  # type: ignore[arg-type]
    findings = FindingSearch(rule="a*", user="u", fingerprint="f", since=1.0, until=2.0)
    query = cosmos_search.exchanges(everything).text("*", "ASC") + cosmos_search.findings(findings).text("*", "DESC")
    members = {"/".join(re.findall(r'"(\w+)"', path)) for path in re.findall(r'c((?:\["\w+"\])+)', query)}
    indexed = {re.sub(r"/(\[\].*)?\?$|/\[\].*", "", one["path"]).strip("/") for one in INDEXING_POLICY["includedPaths"]}
    assert members <= indexed
    assert members >= {"at", "facts/user", "facts/groups", "facts/paths", "facts/findings", "facts/repository"}
