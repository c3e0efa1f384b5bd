from __future__ import annotations

from tests.approving import rule
from tests.console.api.conftest import Api


async def test_who_asks_is_told_their_roles(api: Api) -> None:
    for user, roles in (
        ("alice", ["developer"]),
        ("bob", ["approver", "developer"]),
        ("carol", ["auditor"]),
        ("dave", ["administrator"]),
        ("mallory", []),
    ):
        assert await api.get("/me", user) == {"id": f"{api.issuer}#{user}", "name": user, "roles": roles}


async def test_figures_are_everyones_for_auditors_and_administrators_and_else_ones_own(api: Api) -> None:
    await api.ask("a1")
    await api.ask("a2", principal=f"{api.issuer}#bob", name="bob")
    await api.ask("a3", rule=rule(approvers=frozenset({"admins"})))
    for user, everyone, exchanges, waiting in (
        ("alice", False, 3, 0),
        ("bob", False, 2, 1),
        ("carol", True, 5, 3),
        ("dave", True, 5, 3),
    ):
        found = await api.get("/overview?span=1h", user)
        assert (found["everyone"], found["overview"]["exchanges"], found["waiting"]) == (everyone, exchanges, waiting)
        assert found["until"] - found["since"] == 3600
        assert sum(step["exchanges"] for step in found["overview"]["steps"]) == exchanges
        assert found["services"]["all"] == 1
    assert (await api.get("/overview?span=5m", "carol"))["overview"]["exchanges"] == 0


async def test_the_configuration_is_told_to_those_who_run_the_gateway(api: Api) -> None:
    for user in ("carol", "dave"):
        found = await api.get("/configuration", user)
        assert found["policy"] == (api.state / "policy.yaml").read_text()
        assert api.issuer in found["settings"]
