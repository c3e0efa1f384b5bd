from __future__ import annotations

import msgspec
from starlette.routing import Route

from extproc.console.api.openapi import document
from extproc.console.api.route import Nothing
from extproc.console.api.routes import BASE, OPENAPI, ROUTES
from tests.console.api.conftest import Api

DOCUMENT = document(ROUTES, BASE, "https://console.example")


async def test_it_is_told_to_anybody(api: Api) -> None:
    status, told = await api.call("GET", OPENAPI, None)
    assert status == 200
    assert told["paths"] == DOCUMENT["paths"]
    assert told["openapi"] == "3.1.0"


def test_it_has_the_paths_methods_and_parameters_of_the_routes_and_no_others() -> None:
    described = {
        (method.upper(), path): one for path, each in DOCUMENT["paths"].items() for method, one in each.items()
    }
    assert described.keys() == {(one.method, BASE + one.path) for one in ROUTES}
    for route in ROUTES:
        operation = described[route.method, BASE + route.path]
        served = Route(BASE + route.path, lambda _: None)
        by_place = {
            place: [one["name"] for one in operation["parameters"] if one["in"] == place] for place in ("path", "query")
        }
        assert set(by_place["path"]) == served.param_convertors.keys()
        assert by_place["query"] == [one.name for one in msgspec.structs.fields(route.query)]
        assert ("requestBody" in operation) is (route.body is not Nothing)
        for role in route.roles or ():
            assert role in operation["description"]


def test_every_schema_that_is_named_is_there_and_no_other() -> None:
    def named(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*(named(one) for one in value.values()))
        return set().union(*(named(one) for one in value)) if isinstance(value, list) else set()

    prefix = "#/components/schemas/"
    assert named(DOCUMENT) == {f"{prefix}{name}" for name in DOCUMENT["components"]["schemas"]}


def test_operations_have_names_of_their_own() -> None:
    names = [one["operationId"] for each in DOCUMENT["paths"].values() for one in each.values()]
    assert len(names) == len(set(names)) == len(ROUTES)


def test_a_parameter_is_never_null() -> None:
    for each in DOCUMENT["paths"].values():
        for operation in each.values():
            assert not [one for one in operation["parameters"] if "null" in str(one) or "anyOf" in one["schema"]]
