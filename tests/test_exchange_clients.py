"""What unmodified clients need of an exchange: tokens, accounts, models, telemetry, tunnels and ids."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conditions import condition
from extproc.effects import (
    FetchCredential,
    Finish,
    Identify,
    PassRequestHeaders,
    PassResponseBody,
    PassResponseHeaders,
    Record,
    Respond,
)
from extproc.endpoint import Upstream
from extproc.errors import Code, Refusal
from extproc.events import (
    Connect,
    CredentialReady,
    Identified,
    Recorded,
    RecordingFailed,
    Refused,
    RequestBody,
    RequestHeaders,
    ResponseBody,
)
from extproc.exchange import Exchange
from extproc.identity.gateway_token import LIFETIME_SECONDS, REFRESH_IN_SECONDS, GatewayTokens
from extproc.identity.principal import Principal
from extproc.policy import Effect, Policy, rule
from extproc.recording.document import Outcome
from extproc.replies import REQUEST_ID_HEADER
from extproc.secret import Secret
from extproc.signin.profile import WELL_KNOWN
from tests.playbook import (
    ALICE,
    CREDENTIAL,
    IDENTIFY,
    MALLORY,
    OPENING,
    POLICY,
    START,
    TOKEN,
    Answered,
    Playbook,
    Recording,
    closing,
    refused,
    released,
    request,
    response,
    rules,
)

ID = "5" * 32
TOKENS = GatewayTokens([b"k" * 32])
TOKEN_PATH, USER_PATH = "/copilot_internal/v2/token", "/copilot_internal/user"
GITHUBS = {
    "api": "https://api.githubcopilot.com",
    "proxy": "https://copilot-proxy.githubusercontent.com",
    "telemetry": "https://copilot-telemetry.githubusercontent.com",
}
GATEWAYS = dict.fromkeys(GITHUBS, "http://127.0.0.1:8080")
DONE = Recording(opening=True, outcome=Outcome.COMPLETED)
COMPLETED = closing(Outcome.COMPLETED)


def book(policy: Policy = POLICY, **changes: Any) -> Playbook:
    return Playbook(Exchange(ID, rules(policy=policy, gateway_tokens=TOKENS, **changes)))


def basic(token: str = TOKEN) -> Secret:
    return Secret("Basic " + base64.b64encode(f"me:{token}".encode()).decode())


def inside(
    event: RequestHeaders, tunnel: str, *, name: str | None = None, scheme: str = "https", token: str = TOKEN
) -> RequestHeaders:
    """Put a request into a tunnel; `name` is the one of TLS, by default the tunnel's."""
    headers = [(key, scheme if key == ":scheme" else value) for key, value in event.headers]
    connect = Connect("d" * 32, f"{tunnel}:443", basic(token))
    server_name = tunnel if name is None else name
    return msgspec.structs.replace(event, headers=headers, server_name=server_name, connect=connect)


def intercepted(path: str, host: str = "api.github.com", method: str = "GET", *, token: str = TOKEN) -> RequestHeaders:
    return inside(request(method, path, host=host, token=None, end_of_stream=method == "GET"), host, token=token)


def own_answer(found: Playbook) -> Any:
    return json.loads(found.first(Respond).body)


# --- the token endpoint ----------------------------------------------------------------------------------------------


def minted(event: RequestHeaders, principal: Principal = ALICE, **changes: Any) -> Any:
    found = book(**changes) >> event << IDENTIFY >> Identified(principal) << DONE >> Recorded() << Respond << Finish
    assert found
    one = found.first(Respond)
    assert (one.status, dict(one.headers)["cache-control"]) == (200, "no-store")
    assert json.loads(one.body)["token"] not in json.dumps([found.opening, found.closing])
    return json.loads(one.body)


def asks_for_token(token: str | None = TOKEN) -> RequestHeaders:
    return request("GET", TOKEN_PATH, token=token, end_of_stream=True)


def test_a_token_of_the_gateway_is_minted_for_who_is_identified() -> None:
    answer = minted(asks_for_token())
    read = TOKENS.read(answer["token"], START)
    assert read.principal == ALICE
    assert answer["expires_at"] == read.expires_at == pytest.approx(START + LIFETIME_SECONDS, abs=1)
    assert answer["refresh_in"] == REFRESH_IN_SECONDS
    assert answer["token"].startswith(f"tid={ID};")


def test_endpoints_name_the_gateway_where_the_client_came_to_it() -> None:
    assert minted(asks_for_token())["endpoints"] == GATEWAYS


def test_endpoints_name_githubs_hosts_where_the_client_is_intercepted() -> None:
    assert minted(intercepted(TOKEN_PATH))["endpoints"] == GITHUBS
    assert minted(intercepted(TOKEN_PATH), url="https://gateway.example")["endpoints"] == GITHUBS


def test_endpoints_name_what_the_operator_calls_the_gateway() -> None:
    answer = minted(asks_for_token(), url="https://gateway.example")
    assert answer["endpoints"] == dict.fromkeys(GITHUBS, "https://gateway.example")


def test_without_identity_there_is_no_token() -> None:
    found = book() >> asks_for_token(None) << refused(Outcome.DENIED, Code.IDENTITY_MISSING)
    assert found >> Recorded() << Answered(401, Code.IDENTITY_MISSING) << Finish
    assert "token" not in own_answer(found)


def test_an_identity_that_is_refused_gets_no_token() -> None:
    refusal = Refusal(401, Code.IDENTITY_EXPIRED, "The token expired.")
    found = book() >> asks_for_token() << IDENTIFY >> Refused(refusal)
    assert (
        found << refused(Outcome.DENIED, Code.IDENTITY_EXPIRED) >> Recorded() << Answered(401, refusal.code) << Finish
    )


GATEWAY_TOKEN = TOKENS.mint(ALICE, START, "0").token.reveal()


@pytest.mark.parametrize(
    "event",
    [
        asks_for_token(GATEWAY_TOKEN),
        asks_for_token(f"gho_{GATEWAY_TOKEN}"),
        intercepted(TOKEN_PATH, token=GATEWAY_TOKEN),
        intercepted(TOKEN_PATH, token=f"gho_{GATEWAY_TOKEN}"),
    ],
)
def test_a_token_of_the_gateway_buys_no_other_whatever_way_it_came(event: RequestHeaders) -> None:
    found = book() >> event << Identify(Secret(GATEWAY_TOKEN)) >> Identified(ALICE)
    found = found << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert found << Answered(403, Code.POLICY_DENIED) << Finish
    assert "extproc login" in own_answer(found)["message"]


def test_who_may_not_ask_about_accounts_gets_no_token() -> None:
    chat_alone = replace(POLICY, rules=(rule("chat", Effect.ALLOW, [condition("endpoints", ["chat"])]),))
    found = book(chat_alone) >> asks_for_token() << IDENTIFY >> Identified(ALICE)
    found = found << refused(Outcome.DENIED, Code.POLICY_DENIED) >> Recorded()
    assert found << Answered(403, Code.POLICY_DENIED) << Finish


def test_who_has_too_many_groups_for_a_token_is_told() -> None:
    many = replace(ALICE, groups=ALICE.groups | {f"{number:x}" * 9 for number in range(10_000)})
    found = book() >> asks_for_token() << IDENTIFY >> Identified(many)
    assert found << refused(Outcome.DENIED, Code.IDENTITY_GROUPS_UNAVAILABLE) >> Recorded() << Respond << Finish
    assert found.first(Respond).status == 403


def test_a_token_that_cannot_be_recorded_is_not_given() -> None:
    found = book() >> asks_for_token() << IDENTIFY >> Identified(ALICE) << DONE >> RecordingFailed()
    assert found << Answered(503, Code.RECORDING_UNAVAILABLE) << Finish
    assert "token" not in own_answer(found)


def test_a_gateway_without_a_key_passes_no_request_for_a_token_on() -> None:
    found = Playbook(Exchange(ID, rules())) >> asks_for_token() << IDENTIFY >> Identified(ALICE)
    assert found << refused(Outcome.DENIED, Code.ENDPOINT_UNKNOWN) >> Recorded() << Respond << Finish


@pytest.mark.parametrize("path", [f"{TOKEN_PATH}/", "/copilot_internal/V2/token", "/copilot_internal/v2/tokens"])
def test_what_githubs_servers_may_take_for_the_token_endpoint_never_goes_there(path: str) -> None:
    found = book() >> request("GET", path, end_of_stream=True) << IDENTIFY >> Identified(ALICE)
    assert found << refused(Outcome.DENIED, Code.ENDPOINT_UNKNOWN)


# --- the user --------------------------------------------------------------------------------------------------------


def asked_github(event: RequestHeaders, **changes: Any) -> Playbook:
    found = book(**changes) >> event << IDENTIFY >> Identified(ALICE) << FetchCredential("github", Upstream.GITHUB_API)
    return found >> CredentialReady(CREDENTIAL) << OPENING >> Recorded() << PassRequestHeaders


def user_as_passed(event: RequestHeaders, tree: Any, **changes: Any) -> Any:
    found = asked_github(event, **changes) >> response() >> ResponseBody(json.dumps(tree).encode(), end_of_stream=True)
    assert found << COMPLETED >> Recorded() << PassResponseHeaders << PassResponseBody << Finish
    assert found.closing["response"].keys() == {"status", "upstream_status", "content_type", "body_bytes"}
    passed = found.first(PassResponseBody).data
    assert dict(found.first(PassResponseHeaders).set_headers)["content-length"] == str(len(passed))
    return json.loads(passed)


USER = {"login": "octocat", "endpoints": {**GITHUBS, "api": "https://api.business.githubcopilot.com"}}


def test_the_addresses_of_a_user_lead_to_the_gateway() -> None:
    asked = request("GET", USER_PATH, end_of_stream=True)
    assert user_as_passed(asked, USER) == {"login": "octocat", "endpoints": GATEWAYS}
    ours = dict.fromkeys(GITHUBS, "https://gateway.example")
    assert user_as_passed(asked, USER, url="https://gateway.example")["endpoints"] == ours


def test_the_hosts_of_a_plan_stay_where_they_are_intercepted_and_others_do_not() -> None:
    assert user_as_passed(intercepted(USER_PATH), USER) == USER
    evil = {**USER, "endpoints": {"api": "https://api.business.githubcopilot.com@evil.example", "x": 1}}
    assert user_as_passed(intercepted(USER_PATH), evil)["endpoints"] == dict.fromkeys(("api", "x"), GITHUBS["api"])
    acme = {"endpoints": {"api": "https://copilot-api.acme.ghe.com"}}
    assert user_as_passed(intercepted(USER_PATH), acme, intercepted=("*.acme.ghe.com",)) == acme


def test_a_user_whose_addresses_could_not_be_changed_does_not_pass() -> None:
    found = asked_github(request("GET", USER_PATH, end_of_stream=True)) >> response(200, "text/plain")
    found = found << closing(Outcome.UPSTREAM_ERROR, Code.UPSTREAM_CONTENT_TYPE) >> Recorded()
    assert found << Answered(502, Code.UPSTREAM_CONTENT_TYPE) << Finish


@pytest.mark.parametrize("status", [401, 403, 404])
def test_the_errors_of_account_endpoints_are_the_upstreams_but_for_one_about_the_credential(status: int) -> None:
    asked = request("GET", "/copilot_internal/managed_settings?client_id=x", end_of_stream=True)
    found = asked_github(asked).skip(response(status))
    if status == 401:
        assert found.closing["error"]["code"] == Code.CREDENTIAL_REFUSED
    else:
        found.skip(ResponseBody(b'{"message":"no"}', end_of_stream=True))
        assert found.closing["response"]["status"] == status


# --- models ----------------------------------------------------------------------------------------------------------

MODELS = {
    "data": [
        {"id": "gpt-5", "supported_endpoints": ["/responses", "ws:/responses"]},
        {"id": "gpt-5-mini", "supported_endpoints": ["/chat/completions"]},
        {"id": "claude-opus", "supported_endpoints": ["/v1/messages"]},
        {"id": "ada", "capabilities": {"type": "embeddings"}},
    ]
}
BY_MODEL = replace(
    POLICY,
    rules=(
        rule("list", Effect.ALLOW, [condition("endpoints", ["models"])], credential="github"),
        rule("no-claude", Effect.DENY, [condition("models", ["claude-*"])]),
        rule("mini", Effect.ALLOW, [condition("models", ["gpt-5-mini"])]),
        rule("developers", Effect.ALLOW, [condition("groups", ["developers"]), condition("endpoints", ["responses"])]),
    ),
)


def models_for(principal: Principal, policy: Policy = BY_MODEL, path: str = "/models") -> list[Any]:
    found = book(policy) >> request("GET", path, end_of_stream=True) << IDENTIFY >> Identified(principal)
    found = found << FetchCredential("github", Upstream.COPILOT_API) >> CredentialReady(CREDENTIAL) << OPENING
    found = found >> Recorded() << PassRequestHeaders >> response()
    found = found >> ResponseBody(json.dumps(MODELS).encode(), end_of_stream=True) << COMPLETED
    assert found >> Recorded() << PassResponseHeaders << PassResponseBody << Finish
    models: list[Any] = json.loads(found.first(PassResponseBody).data)["data"]
    return models


@pytest.mark.parametrize("path", ["/models", "/v1/models"])
def test_a_list_of_models_has_those_alone_that_the_principal_may_use(path: str) -> None:
    assert [model["id"] for model in models_for(ALICE, path=path)] == ["gpt-5", "gpt-5-mini"]
    assert [model["id"] for model in models_for(MALLORY, path=path)] == ["gpt-5-mini"]


def test_a_list_of_models_names_no_web_sockets() -> None:
    assert models_for(ALICE)[0]["supported_endpoints"] == ["/responses"]


def test_where_nothing_is_denied_every_model_stays() -> None:
    assert len(models_for(ALICE, POLICY)) == len(MODELS["data"])


# --- tunnels ---------------------------------------------------------------------------------------------------------


def test_an_exchange_inside_a_tunnel_is_that_of_who_opened_it_and_says_which_tunnel() -> None:
    event = inside(request(host="api.githubcopilot.com", token="gho_somebodys-own"), "api.githubcopilot.com")
    found = book().skip(event)
    assert found.first(Identify) == IDENTIFY
    found.skip(Identified(ALICE)).skip(RequestBody(b"{}", end_of_stream=True))
    assert found.opening["client"]["tunnel"] == "d" * 32


def test_without_a_tunnel_there_is_none_in_the_record() -> None:
    assert released().opening["client"]["tunnel"] is None


def test_a_tunnel_without_a_good_token_is_no_identity_whatever_the_request_brings() -> None:
    event = inside(request(host="api.githubcopilot.com"), "api.githubcopilot.com", token="gho_not-a-jwt")
    assert book() >> event << refused(Outcome.DENIED, Code.IDENTITY_MALFORMED)


@pytest.mark.parametrize(
    ("host", "tunnel", "name"),
    [
        ("api.github.com", "api.githubcopilot.com", "api.githubcopilot.com"),
        ("api.github.com", "api.github.com", "api.githubcopilot.com"),
        ("evil.example", "api.github.com", "api.github.com"),
        ("evil.example", "api.github.com", "evil.example"),
        ("api.github.com.", "api.github.com", "api.github.com"),
        ("", "api.github.com", "api.github.com"),
    ],
)
def test_hosts_that_disagree_are_refused_as_misdirected(host: str, tunnel: str, name: str) -> None:
    # Once it is known who asks, so that the record says it.
    found = book() >> inside(request(host=host), tunnel, name=name) << IDENTIFY >> Identified(ALICE)
    found = found << refused(Outcome.DENIED, Code.REQUEST_MISDIRECTED) >> Recorded()
    assert found << Answered(421, Code.REQUEST_MISDIRECTED) << Finish


@pytest.mark.parametrize("name", ["api.github.com", "API.github.com", ""])
@pytest.mark.parametrize("host", ["api.github.com", "API.GitHub.com", "api.github.com:443"])
def test_hosts_that_agree_pass_in_any_case_with_a_port_and_without_a_name_of_tls(host: str, name: str) -> None:
    assert (
        book()
        >> inside(request("GET", "/user", host=host, end_of_stream=True), "api.github.com", name=name)
        << IDENTIFY
    )


def test_inside_a_tunnel_nothing_but_https_is_taken() -> None:
    event = inside(request(host="api.github.com"), "api.github.com", name="", scheme="http")
    found = book() >> event << IDENTIFY >> Identified(ALICE)
    found = found << refused(Outcome.DENIED, Code.REQUEST_MISDIRECTED) >> Recorded()
    assert found << Answered(400, Code.REQUEST_MISDIRECTED) << Finish


# --- signing in ------------------------------------------------------------------------------------------------------


def test_anybody_is_told_how_to_sign_in() -> None:
    event = request("GET", f"{WELL_KNOWN}?x=1", token=None, end_of_stream=True)
    found = book(profile=b'{"issuer":"i"}') >> event << DONE >> Recorded() << Respond << Finish
    assert found
    assert (found.first(Respond).status, own_answer(found)) == (200, {"issuer": "i"})


@pytest.mark.parametrize(("method", "profile"), [("POST", b"{}"), ("HEAD", b"{}"), ("GET", None)])
def test_where_there_is_no_profile_its_path_is_like_any_other(method: str, profile: bytes | None) -> None:
    event = request(method, WELL_KNOWN, token=None, end_of_stream=True)
    assert book(profile=profile) >> event << refused(Outcome.DENIED, Code.IDENTITY_MISSING)


@pytest.mark.parametrize("token", [None, "gho_0123456789abcdef", "sk-0123"])
@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/v1/messages", USER_PATH, "/models", "/mcp"])
def test_who_is_not_identified_is_told_the_command_to_run(path: str, token: str | None) -> None:
    found = book().skip(request("POST" if "mod" not in path else "GET", path, token=token)).skip(Recorded())
    assert found.first(Respond).status == 401
    assert "extproc login" in own_answer(found)["error"]["message"]


@pytest.mark.parametrize("code", [code for code in Code if code.startswith("identity.")])
@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/v1/messages", USER_PATH, "/mcp"])
def test_whose_token_is_not_accepted_is_told_the_command_to_run_once(code: Code, path: str) -> None:
    for message in ("The token is not good.", "It expired: run `extproc login` again."):
        found = book().skip(request("POST", path)).skip(Refused(Refusal(401, code, message))).skip(Recorded())
        told = own_answer(found)["error"]["message"]
        assert told.startswith(message)
        assert told.count("extproc login") == 1
        # The record says what it was, not what is to be done.
        assert found.closing["error"]["message"] == message


def test_where_it_would_not_help_nobody_is_told_to_sign_in() -> None:
    refusal = Refused(Refusal(503, Code.IDENTITY_UNAVAILABLE, "Not now."))
    told = book().skip(asks_for_token()).skip(refusal).skip(Recorded()).first(Respond).body
    assert b"Not now." in told
    assert b"extproc login" not in told


# --- x-github-request-id ---------------------------------------------------------------------------------------------


def test_the_request_id_of_github_stays() -> None:
    found = released().skip(response(200, "text/event-stream", (REQUEST_ID_HEADER, "GH:1")))
    passed = found.first(PassResponseHeaders)
    assert REQUEST_ID_HEADER not in {name for name, _ in passed.set_headers}
    assert REQUEST_ID_HEADER not in passed.remove_headers


def test_an_answer_without_a_request_id_gets_ours() -> None:
    found = released().skip(response(200, "text/event-stream"))
    assert (REQUEST_ID_HEADER, "0" * 32) in found.first(PassResponseHeaders).set_headers


@pytest.mark.parametrize("event", [request(token=None), asks_for_token(None), request(path="/a/../b")])
def test_every_answer_of_ours_has_a_request_id(event: RequestHeaders) -> None:
    found = book().skip(event).skip(Recorded())
    assert (REQUEST_ID_HEADER, ID) in found.first(Respond).headers


# --- no way around it ------------------------------------------------------------------------------------------------


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30), st.booleans())
def test_inside_a_tunnel_nothing_but_its_own_host_is_asked_for(host: str, plain: bool) -> None:  # noqa: FBT001
    event = inside(request(host=host), "api.github.com", name="", scheme="http" if plain else "https")
    found = book().skip(event).skip(Identified(ALICE))
    is_its_own = host.lower().removesuffix(":443") == "api.github.com"
    # Its body is waited for, or it is refused.
    told = [type(effect) for effect in found.effects]
    assert told == ([Identify] if is_its_own and not plain else [Identify, Record])
