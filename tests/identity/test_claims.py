from __future__ import annotations

import pytest

from extproc.errors import Code, Refused
from extproc.identity.claims import needs_groups, principal_of
from extproc.identity.issuers import Issuer, entra, github_actions, oidc
from extproc.identity.principal import Principal

TENANT = "11111111-2222-3333-4444-555555555555"
OIDC = oidc("https://idp.example", audiences=["gateway"])
ENTRA = entra([TENANT], audiences=["gateway"])
V1 = next(issuer for issuer in ENTRA if "sts" in issuer.url)
V2 = next(issuer for issuer in ENTRA if "v2.0" in issuer.url)
ACTIONS = github_actions(["Octo-Org"], audiences=["gateway"])
RUN = {
    "sub": "repo:octo-org/app:ref:refs/heads/main",
    "repository": "octo-org/app",
    "repository_owner": "octo-org",
    "ref": "refs/heads/main",
    "job_workflow_ref": "octo-org/app/.github/workflows/ci.yml@refs/heads/main",
    "actor": "alice",
    "workflow": "ci",
    "run_id": "42",
    "event_name": "push",
    "jti": "not kept",
}


def refused_code(issuer: Issuer, claims: dict[str, object]) -> Code:
    with pytest.raises(Refused) as caught:
        principal_of(issuer, claims)
    assert caught.value.refusal.status == 401
    return caught.value.refusal.code


def test_a_generic_subject_is_unique_by_issuer_and_subject() -> None:
    claims: dict[str, object] = {"sub": "alice", "name": "Alice", "groups": ["developers"], "azp": "cli"}
    assert principal_of(OIDC, claims) == Principal(
        id="https://idp.example#alice",
        name="Alice",
        kind="person",
        issuer="https://idp.example",
        subject="alice",
        groups=frozenset({"developers"}),
        claims={"azp": "cli"},
    )


def test_the_claims_for_groups_and_name_and_the_kind_are_the_issuers() -> None:
    issuer = oidc(
        "https://idp.example", audiences=["gateway"], groups_claim="teams", name_claim="nickname", kind="workload"
    )
    found = principal_of(issuer, {"sub": "robot", "nickname": "R2", "teams": ["ci"], "groups": ["admins"]})
    assert (found.name, found.kind, found.groups) == ("R2", "workload", frozenset({"ci"}))


def test_a_subject_without_a_name_is_called_by_the_next_best() -> None:
    assert principal_of(OIDC, {"sub": "alice"}).name == "alice"
    assert principal_of(OIDC, {"sub": "7", "email": "alice@example.com"}).name == "alice@example.com"


@pytest.mark.parametrize(
    "groups", ["developers", None, {"developers": True}, [1], ["developers", None], [["a"]], ["\x00"]]
)
def test_groups_of_the_wrong_type_are_refused(groups: object) -> None:
    assert refused_code(OIDC, {"sub": "alice", "groups": groups}) is Code.IDENTITY_CLAIMS


@pytest.mark.parametrize("subject", [None, "", 7, ["alice"], "a\nb", "a\u202eb", "\ud800", "x" * 1025])
def test_a_subject_that_is_not_plain_text_is_refused(subject: object) -> None:
    assert refused_code(OIDC, {"sub": subject}) is Code.IDENTITY_CLAIMS
    assert refused_code(OIDC, {}) is Code.IDENTITY_CLAIMS


def test_a_person_of_entra_is_the_same_in_both_token_versions() -> None:
    v1 = principal_of(V1, {"tid": TENANT, "oid": "o", "upn": "alice@contoso.com", "appid": "a", "appidacr": "0"})
    v2 = principal_of(
        V2, {"tid": TENANT, "oid": "o", "preferred_username": "alice@contoso.com", "azp": "a", "azpacr": "0"}
    )
    assert v1.id == v2.id == f"entra:{TENANT}:o"
    assert v1.name == v2.name == "alice@contoso.com"
    assert v1.kind == v2.kind == "person"
    assert v1.claims == v2.claims == {"tid": TENANT, "appid": "a"}


def test_entra_groups_and_roles_are_kept_apart() -> None:
    found = principal_of(V2, {"tid": TENANT, "oid": "o", "groups": ["g"], "roles": ["Approver"]})
    assert (found.groups, found.roles) == (frozenset({"g"}), frozenset({"Approver"}))
    assert refused_code(V2, {"tid": TENANT, "oid": "o", "roles": "Approver"}) is Code.IDENTITY_CLAIMS


@pytest.mark.parametrize("missing", ["tid", "oid"])
def test_entra_needs_tenant_and_object_id(missing: str) -> None:
    claims: dict[str, object] = {"tid": TENANT, "oid": "o", "sub": "s"}
    del claims[missing]
    assert refused_code(V2, claims) is Code.IDENTITY_CLAIMS


def test_the_tenant_of_an_entra_token_must_be_that_of_its_issuer() -> None:
    other = "99999999-2222-3333-4444-555555555555"
    assert refused_code(V2, {"tid": other, "oid": "o"}) is Code.IDENTITY_CLAIMS


@pytest.mark.parametrize(
    ("claims", "kind"),
    [
        ({"idtyp": "app", "preferred_username": "looks like one"}, "workload"),
        ({"idtyp": "user"}, "person"),
        ({"azpacr": "1"}, "workload"),
        ({"appidacr": "2"}, "workload"),
        ({}, "workload"),
        ({"azpacr": "0"}, "person"),
        ({"azpacr": "1", "scp": "access"}, "person"),
        ({"appidacr": "1", "unique_name": "alice@contoso.com"}, "person"),
    ],
)
def test_an_entra_application_is_told_from_a_person(claims: dict[str, object], kind: str) -> None:
    assert principal_of(V2, {"tid": TENANT, "oid": "o"} | claims).kind == kind


def test_a_workflow_keeps_the_claims_that_policy_needs() -> None:
    found = principal_of(ACTIONS, RUN)
    assert (found.kind, found.name, found.subject) == ("workload", "alice", RUN["sub"])
    assert found.id == f"https://token.actions.githubusercontent.com#{RUN['sub']}"
    assert found.claims == {name: value for name, value in RUN.items() if name not in {"sub", "jti"}}
    assert found.groups == frozenset()


@pytest.mark.parametrize("owner", ["mallory", "octo-org2", "", None, ["octo-org"]])
def test_a_workflow_of_another_owner_is_refused(owner: object) -> None:
    assert refused_code(ACTIONS, RUN | {"repository_owner": owner}) is Code.IDENTITY_CLAIMS


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, False),
        ({"groups": ["g"]}, False),
        ({"hasgroups": False}, False),
        ({"hasgroups": ["odd"]}, False),
        ({"hasgroups": True}, True),
        ({"hasgroups": "true"}, True),
        ({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}}, True),
        ({"_claim_names": {"address": "src1"}}, False),
    ],
)
def test_groups_that_did_not_fit_into_the_token_are_noticed(claims: dict[str, object], *, expected: bool) -> None:
    assert needs_groups(V2, claims) is expected
    assert needs_groups(OIDC, claims) is expected


def test_a_claim_names_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        needs_groups(V2, {"_claim_names": "groups"})
    assert caught.value.refusal.code is Code.IDENTITY_CLAIMS
