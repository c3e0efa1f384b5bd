from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from extproc.errors import Code, ConfigError, Refusal, Refused
from extproc.identity.gateway_token import LIFETIME_SECONDS, GatewayTokens
from extproc.identity.issuers import entra, github_actions, oidc
from extproc.identity.principal import Principal
from extproc.keys.jwks import KeyState
from extproc.keys.verifier import Verifier, VerifierLimits
from extproc.secret import Secret

NOW = 1_800_000_000.0
TENANT = "11111111-2222-3333-4444-555555555555"
OTHER_TENANT = "99999999-2222-3333-4444-555555555555"

GATEWAY_TOKENS = GatewayTokens([bytes(32)])

# Made once: an RSA key takes longer to make than all these tests to run.
KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("a", "b")}


@dataclass
class Groups:
    """A group source that counts, and fails when told to."""

    answer: frozenset[str] | None = frozenset({"from graph"})
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def groups(self, tenant: str, object_id: str) -> frozenset[str]:
        self.asked.append((tenant, object_id))
        if self.answer is None:
            raise Refused(Refusal(503, Code.IDENTITY_GROUPS_UNAVAILABLE, "no"))
        return self.answer


@dataclass
class World:
    """Two generic issuers (a, b), Entra and GitHub Actions, all on one loopback server, and a verifier for them."""

    base: str
    verifier: Verifier
    clock: list[float]
    groups: Groups

    def claims(self, issuer: str = "a", **changes: Any) -> dict[str, Any]:
        claims = {"iss": f"{self.base}/{issuer}", "sub": "alice", "aud": "gateway", "exp": NOW + 3600, "iat": NOW}
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def entra(self, **changes: Any) -> dict[str, Any]:
        return self.claims(f"{TENANT}/v2.0", tid=TENANT, oid="object", sub=None) | changes

    async def code(self, token: str) -> Code:
        """Verify a token that must be refused, twice: failures are not remembered, and quote nothing."""
        seen = []
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await self.verifier.verify(Secret(token))
            seen.append(caught.value.refusal)
            assert not any(part in str(caught.value) for part in token.split(".") if len(part) > 8)
        assert seen[0] == seen[1]
        assert self.verifier.cached(Secret(token)) is None
        return seen[0].code


def sign(claims: object, *, key: str = "a", kid: object = "key-a", alg: str = "RS256", **header: object) -> str:
    """Sign anything, also what no library would sign."""
    fields = {"alg": alg, "kid": kid} | header
    signed = f"{encoded(fields)}.{encoded(claims)}"
    algorithm = jwt.get_algorithm_by_name("RS256")
    return f"{signed}.{b64(algorithm.sign(signed.encode(), KEYS[key]))}"


def encoded(value: object) -> str:
    return b64((value if isinstance(value, str) else json.dumps(value)).encode())


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def jwks(name: str) -> Callable[[web.Request], Any]:
    key = json.loads(RSAAlgorithm.to_jwk(KEYS[name].public_key())) | {"kid": f"key-{name}", "use": "sig"}

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"keys": [key]})

    return handler


@pytest.fixture
async def world() -> AsyncIterator[World]:
    app = web.Application()
    for name in ("a", "b"):
        app.router.add_get(f"/{name}/jwks", jwks(name))
    app.router.add_get(f"/{TENANT}/discovery/v2.0/keys", jwks("a"))
    app.router.add_get(f"/{TENANT}/discovery/keys", jwks("b"))
    app.router.add_get("/actions/jwks", jwks("a"))
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        base = str(server.make_url("")).rstrip("/")
        clock, groups = [NOW], Groups()
        verifier = Verifier(
            [
                oidc(f"{base}/a", audiences=["gateway"], jwks_url=f"{base}/a/jwks", algorithms=["RS256"]),
                oidc(f"{base}/b", audiences=["gateway"], jwks_url=f"{base}/b/jwks"),
                *entra([TENANT], audiences=["gateway"], login_base=base, sts_base=f"{base}/sts"),
                github_actions(
                    ["octo-org"], audiences=["gateway"], url=f"{base}/actions", jwks_url=f"{base}/actions/jwks"
                ),
            ],
            session=session,
            now=lambda: clock[0],
            graph=groups,
            limits=VerifierLimits(entries=3),
            gateway_tokens=GATEWAY_TOKENS,
        )
        yield World(base, verifier, clock, groups)
        await verifier.aclose()


async def test_a_sound_token_becomes_its_principal(world: World) -> None:
    principal = await world.verifier.verify(Secret(sign(world.claims(groups=["developers"]))))
    assert principal.id == f"{world.base}/a#alice"
    assert principal.groups == {"developers"}


async def test_a_token_without_key_id_is_verified_with_the_only_key(world: World) -> None:
    claims = encoded(world.claims())
    signed = f"{encoded({'alg': 'RS256'})}.{claims}"
    signature = jwt.get_algorithm_by_name("RS256").sign(signed.encode(), KEYS["a"])
    assert (await world.verifier.verify(Secret(f"{signed}.{b64(signature)}"))).subject == "alice"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
async def test_an_unsigned_token_is_refused(world: World, alg: str) -> None:
    unsigned = f"{encoded({'alg': alg, 'kid': 'key-a'})}.{encoded(world.claims())}."
    assert await world.code(unsigned) is Code.IDENTITY_ALGORITHM
    assert await world.code(sign(world.claims(), alg=alg)) is Code.IDENTITY_ALGORITHM


@pytest.mark.parametrize("encoding", ["pem", "pkcs1", "der", "modulus"])
async def test_the_public_key_is_no_hmac_secret(world: World, encoding: str) -> None:
    public = KEYS["a"].public_key()
    spki, pkcs1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
    secret = {
        "pem": public.public_bytes(serialization.Encoding.PEM, spki),
        "pkcs1": public.public_bytes(serialization.Encoding.PEM, pkcs1),
        "der": public.public_bytes(serialization.Encoding.DER, spki),
        "modulus": public.public_numbers().n.to_bytes(256, "big"),
    }[encoding]
    signed = f"{encoded({'alg': 'HS256', 'kid': 'key-a'})}.{encoded(world.claims())}"
    forged = f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
    assert await world.code(forged) is Code.IDENTITY_ALGORITHM


async def test_an_algorithm_that_only_another_issuer_allows_is_refused(world: World) -> None:
    assert await world.code(sign(world.claims("a"), alg="PS256")) is Code.IDENTITY_ALGORITHM
    assert await world.code(sign(world.claims("b"), key="b", kid="key-b", alg="PS256")) is Code.IDENTITY_SIGNATURE


async def test_a_key_of_another_type_than_the_algorithm_is_unknown(world: World) -> None:
    assert await world.code(sign(world.claims("b"), key="b", kid="key-b", alg="ES256")) is Code.IDENTITY_KEY_UNKNOWN


async def test_a_token_of_one_issuer_signed_with_anothers_key_is_refused(world: World) -> None:
    assert await world.code(sign(world.claims("a"), key="b", kid="key-b")) is Code.IDENTITY_KEY_UNKNOWN
    assert await world.code(sign(world.claims("a"), key="b", kid="key-a")) is Code.IDENTITY_SIGNATURE
    assert (await world.verifier.verify(Secret(sign(world.claims("b"), key="b", kid="key-b")))).issuer.endswith("/b")


async def test_a_key_that_the_token_brings_along_is_not_used(world: World) -> None:
    own = json.loads(RSAAlgorithm.to_jwk(KEYS["b"].public_key()))
    assert await world.code(sign(world.claims(), key="b", kid="key-a", jwk=own)) is Code.IDENTITY_SIGNATURE
    jku = f"{world.base}/b/jwks"
    assert await world.code(sign(world.claims(), key="b", kid="key-b", jku=jku)) is Code.IDENTITY_KEY_UNKNOWN


async def test_a_changed_token_is_refused(world: World) -> None:
    header, payload, signature = sign(world.claims()).split(".")
    assert await world.code(f"{header}.{encoded(world.claims(sub='mallory'))}.{signature}") is Code.IDENTITY_SIGNATURE
    assert await world.code(f"{header}.{payload}.{b64(b'short')}") is Code.IDENTITY_SIGNATURE
    assert await world.code(f"{header}.{payload}.") is Code.IDENTITY_SIGNATURE


@pytest.mark.parametrize("ending", ["/", "/../a", "?", "#", "x", " "])
async def test_the_issuer_must_match_to_the_letter(world: World, ending: str) -> None:
    assert await world.code(sign(world.claims(iss=f"{world.base}/a{ending}"))) is Code.IDENTITY_ISSUER


async def test_an_unknown_issuer_is_refused(world: World) -> None:
    assert await world.code(sign(world.claims(iss="https://evil.example"))) is Code.IDENTITY_ISSUER
    assert await world.code(sign(world.claims(iss=[f"{world.base}/a"]))) is Code.IDENTITY_ISSUER


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": NOW - 61}, Code.IDENTITY_EXPIRED),
        ({"exp": None}, Code.IDENTITY_CLAIMS),
        ({"exp": str(NOW + 60)}, Code.IDENTITY_CLAIMS),
        ({"nbf": NOW + 61}, Code.IDENTITY_NOT_YET_VALID),
        ({"iat": NOW + 61}, Code.IDENTITY_NOT_YET_VALID),
        ({"aud": "another"}, Code.IDENTITY_AUDIENCE),
        ({"aud": ["another", "Gateway"]}, Code.IDENTITY_AUDIENCE),
        ({"aud": None}, Code.IDENTITY_AUDIENCE),
        ({"sub": None}, Code.IDENTITY_CLAIMS),
        ({"sub": 7}, Code.IDENTITY_CLAIMS),
        ({"groups": "developers"}, Code.IDENTITY_CLAIMS),
        ({"groups": [1]}, Code.IDENTITY_CLAIMS),
    ],
)
async def test_a_signed_token_with_unacceptable_claims_is_refused(
    world: World, changes: dict[str, Any], expected: Code
) -> None:
    assert await world.code(sign(world.claims(**changes))) is expected


async def test_claims_are_not_judged_before_the_signature(world: World) -> None:
    assert await world.code(sign(world.claims(exp=NOW - 9999), key="b")) is Code.IDENTITY_SIGNATURE


@pytest.mark.parametrize(
    "header", [{"kid": 7}, {"kid": ["key-a"]}, {"crit": ["x"]}, {"b64": False}, {"typ": "dpop+jwt"}]
)
async def test_an_unacceptable_header_is_malformed(world: World, header: dict[str, Any]) -> None:
    assert await world.code(sign(world.claims(), **header)) is Code.IDENTITY_MALFORMED


async def test_a_payload_that_is_no_unambiguous_object_is_malformed(world: World) -> None:
    assert await world.code(sign([world.claims()])) is Code.IDENTITY_MALFORMED
    twice = json.dumps(world.claims())[:-1] + ', "sub": "mallory"}'
    assert await world.code(sign(twice)) is Code.IDENTITY_MALFORMED
    assert await world.code(sign(world.claims(filler="x" * 20_000))) is Code.IDENTITY_MALFORMED
    assert await world.code("no token\ud800") is Code.IDENTITY_MALFORMED


async def test_an_issuer_that_cannot_be_reached_is_a_503(world: World) -> None:
    async with aiohttp.ClientSession() as session:
        issuer = oidc("http://127.0.0.1:1", audiences=["gateway"])
        verifier = Verifier([issuer], session=session, now=lambda: NOW)
        with pytest.raises(Refused) as caught:
            await verifier.verify(Secret(sign(world.claims(iss=issuer.url))))
        assert (caught.value.refusal.status, caught.value.refusal.code) == (503, Code.IDENTITY_UNAVAILABLE)


async def test_a_verified_token_is_remembered_for_a_minute(world: World) -> None:
    token = Secret(sign(world.claims()))
    assert world.verifier.cached(token) is None
    principal = await world.verifier.verify(token)
    world.clock[0] += 59.9
    assert world.verifier.cached(token) is principal
    assert await world.verifier.verify(token) is principal
    world.clock[0] += 0.1
    assert world.verifier.cached(token) is None
    assert await world.verifier.verify(token) == principal


async def test_a_remembered_token_is_forgotten_when_it_expires(world: World) -> None:
    token = Secret(sign(world.claims(exp=NOW + 10)))
    await world.verifier.verify(token)
    world.clock[0] += 10
    assert world.verifier.cached(token) is None
    world.clock[0] += 60
    assert await world.code(token.reveal()) is Code.IDENTITY_EXPIRED


async def test_a_token_is_only_remembered_to_the_letter(world: World) -> None:
    token = sign(world.claims())
    await world.verifier.verify(Secret(token))
    assert world.verifier.cached(Secret(token[:-2])) is None


async def test_no_more_tokens_are_remembered_than_allowed(world: World) -> None:
    tokens = [Secret(sign(world.claims(sub=f"user-{number}"))) for number in range(4)]
    for token in tokens:
        await world.verifier.verify(token)
    assert [world.verifier.cached(token) is not None for token in tokens] == [False, True, True, True]


async def test_entra_tokens_of_both_versions_are_one_person_and_need_no_sub(world: World) -> None:
    v2 = await world.verifier.verify(Secret(sign(world.entra(preferred_username="alice@contoso.com"))))
    v1_claims = world.entra(iss=f"{world.base}/sts/{TENANT}/", upn="alice@contoso.com")
    v1 = await world.verifier.verify(Secret(sign(v1_claims, key="b", kid="key-b")))
    assert v1.id == v2.id == f"entra:{TENANT}:object"
    assert world.groups.asked == []


async def test_another_entra_tenant_is_refused(world: World) -> None:
    assert await world.code(sign(world.entra(iss=f"{world.base}/{OTHER_TENANT}/v2.0"))) is Code.IDENTITY_ISSUER
    assert await world.code(sign(world.entra(tid=OTHER_TENANT))) is Code.IDENTITY_CLAIMS


async def test_groups_that_did_not_fit_are_asked_for_once(world: World) -> None:
    token = Secret(sign(world.entra(_claim_names={"groups": "src1"}, groups=["stale"])))
    for _ in range(3):
        assert (await world.verifier.verify(token)).groups == {"from graph"}
    assert world.groups.asked == [(TENANT, "object")]


async def test_groups_that_cannot_be_asked_for_are_never_no_groups(world: World) -> None:
    world.groups.answer = None
    assert await world.code(sign(world.entra(hasgroups=True))) is Code.IDENTITY_GROUPS_UNAVAILABLE
    # A generic issuer that keeps its groups elsewhere has nobody to be asked.
    token = sign(world.claims(_claim_names={"groups": "src1"}))
    assert await world.code(token) is Code.IDENTITY_GROUPS_UNAVAILABLE


async def test_a_workflow_is_only_let_in_for_an_owner_on_the_list(world: World) -> None:
    claims = world.claims("actions", sub="repo:octo-org/app", repository_owner="octo-org")
    assert (await world.verifier.verify(Secret(sign(claims)))).kind == "workload"
    assert await world.code(sign(claims | {"repository_owner": "mallory"})) is Code.IDENTITY_CLAIMS


def minted(principal: Principal, tokens: GatewayTokens = GATEWAY_TOKENS) -> Secret:
    return tokens.mint(principal, NOW, "id").token


async def test_a_token_of_the_gateway_becomes_whom_it_was_minted_for(world: World) -> None:
    principal = await world.verifier.verify(Secret(sign(world.claims(groups=["developers"]))))
    token = minted(principal)
    assert await world.verifier.verify(token) == principal
    assert world.verifier.cached(token) == principal
    world.clock[0] += 60
    assert world.verifier.cached(token) is None
    assert await world.verifier.verify(token) == principal


async def test_a_token_of_the_gateway_is_forgotten_when_it_expires(world: World) -> None:
    token = minted(await world.verifier.verify(Secret(sign(world.claims()))))
    world.clock[0] += LIFETIME_SECONDS - 10
    await world.verifier.verify(token)
    world.clock[0] += 10
    assert world.verifier.cached(token) is None
    assert await world.code(token.reveal()) is Code.IDENTITY_EXPIRED


async def test_a_token_of_another_gateway_is_refused(world: World) -> None:
    principal = await world.verifier.verify(Secret(sign(world.claims())))
    assert await world.code(minted(principal, GatewayTokens([b"k" * 32])).reveal()) is Code.IDENTITY_SIGNATURE


async def test_a_token_for_a_principal_of_an_issuer_that_is_not_trusted_here_is_refused(world: World) -> None:
    stranger = Principal("https://else.example#alice", "Alice", "person", "https://else.example", "alice")
    assert await world.code(minted(stranger).reveal()) is Code.IDENTITY_ISSUER


async def test_a_gateway_that_mints_no_tokens_takes_none() -> None:
    async with aiohttp.ClientSession() as session:
        issuer = oidc("https://idp.example", audiences=["gateway"])
        verifier = Verifier([issuer], session=session, now=lambda: NOW)
        token = minted(Principal("https://idp.example#alice", "Alice", "person", "https://idp.example", "alice"))
        with pytest.raises(Refused) as caught:
            await verifier.verify(token)
        assert caught.value.refusal.code is Code.IDENTITY_ISSUER
        assert verifier.cached(token) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"exp": NOW - 61}, "a"), ({"aud": "another"}, "a"), ({"iss": "https://e.example"}, "a"), ({}, "b")],
)
async def test_who_has_to_sign_in_again_is_told_how(world: World, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(Refused) as caught:
        await world.verifier.verify(Secret(sign(world.claims(**changes), key=key)))
    assert caught.value.refusal.message.endswith("; run `extproc login`.")


async def test_how_keys_stand_is_told_for_every_issuer(world: World) -> None:
    await world.verifier.verify(Secret(sign(world.claims())))
    world.clock[0] += 7
    states = world.verifier.key_states()
    assert states[f"{world.base}/a"] == KeyState(age=7, refreshed=1, failed=0)
    assert states[f"{world.base}/b"] == KeyState(age=None, refreshed=0, failed=0)
    assert len(states) == 5


async def test_a_verifier_without_issuers_or_with_one_twice_cannot_exist() -> None:
    async with aiohttp.ClientSession() as session:
        issuer = oidc("https://idp.example", audiences=["gateway"])
        with pytest.raises(ConfigError, match="at least one"):
            Verifier([], session=session, now=lambda: NOW)
        with pytest.raises(ConfigError, match="twice"):
            Verifier([issuer, issuer], session=session, now=lambda: NOW)
