from __future__ import annotations

import time
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.approval import ApprovalRule
from extproc.approval.protection import Protection, protection, touch_condition
from extproc.approval.touch import Act, Touch
from extproc.conditions import Condition, condition, path_glob
from extproc.endpoint import EndpointKind, Upstream, endpoint_of
from extproc.identity.principal import Principal
from extproc.policy import Decision, Effect, Facts, Passthrough, Policy, Rule, Trial, rule

ALICE = Principal(
    id="https://issuer#1",
    name="alice",
    kind="person",
    issuer="https://issuer",
    subject="1",
    groups=frozenset({"developers", "7b0c"}),
    claims={"repository_owner": "acme", "ref": "refs/heads/main"},
)
CHAT = Facts(
    EndpointKind.CHAT,
    Upstream.COPILOT_API,
    "POST",
    "api.githubcopilot.com",
    "/chat/completions",
    model="gpt-5",
    repository="acme/app",
)
REPO = Facts(EndpointKind.METADATA, Upstream.GITHUB_API, "GET", "api.github.com", "/repos/acme/app/pulls")


def policy(*rules: Rule, metadata: tuple[Passthrough, ...] = (), credential: str | None = None) -> Policy:
    return Policy(rules, metadata, credential, digest="0" * 64)


def holds(name: str, *values: str, principal: Principal = ALICE, facts: Facts = CHAT) -> bool:
    only = policy(rule("only", Effect.ALLOW, [condition(name, values)]))
    return only.decide(principal, facts).effect is Effect.ALLOW


def test_a_policy_without_rules_denies_as_default() -> None:
    decision = policy().decide(ALICE, CHAT)
    assert (decision.effect, decision.rule_id, decision.credential) == (Effect.DENY, "default", None)
    assert decision.reason


def test_the_first_rule_that_matches_decides() -> None:
    rules = [rule("first", Effect.DENY, []), rule("second", Effect.ALLOW, [], credential="c")]
    assert policy(*rules).decide(ALICE, CHAT).rule_id == "first"
    assert policy(*reversed(rules)).decide(ALICE, CHAT) == Decision(Effect.ALLOW, "second", "", "c")


def test_a_denial_says_its_reason_and_carries_no_credential() -> None:
    told = policy(rule("no", Effect.DENY, [], reason="Ask Bob.", credential="c")).decide(ALICE, CHAT)
    assert told == Decision(Effect.DENY, "no", "Ask Bob.", None)
    assert '"no"' in policy(rule("no", Effect.DENY, [])).decide(ALICE, CHAT).reason


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("groups", "developers", True),
        ("groups", "Developers", False),
        ("groups", "dev*", False),
        ("users", "alice", True),
        ("users", "https://issuer#1", True),
        ("users", "1", False),
        ("kinds", "person", True),
        ("kinds", "workload", False),
        ("issuers", "https://issuer", True),
        ("issuers", "https://issuer/", False),
        ("endpoints", "chat", True),
        ("endpoints", "metadata", False),
        ("upstreams", "copilot-api", True),
        ("methods", "POST", True),
        ("methods", "GET", False),
        ("claims.ref", "refs/*", True),
        ("claims.ref", "REFS/*", False),
        ("claims.repository_owner", "acme", True),
        ("claims.actor", "*", False),
    ],
)
def test_a_condition_compares_with_the_fact_of_its_name(name: str, value: str, *, expected: bool) -> None:
    assert holds(name, value) is expected


def test_a_method_in_small_letters_does_not_dodge_a_rule() -> None:
    assert holds("methods", "POST", facts=replace(CHAT, method="post"))


def test_any_value_of_a_condition_is_enough_and_all_conditions_must_hold() -> None:
    assert holds("users", "bob", "alice")
    both = [condition("users", ["alice"]), condition("models", ["claude-*"])]
    assert policy(rule("r", Effect.ALLOW, both)).decide(ALICE, CHAT).rule_id == "default"
    assert policy(rule("r", Effect.ALLOW, both)).decide(ALICE, replace(CHAT, model="claude-4")).rule_id == "r"


@pytest.mark.parametrize("name", ["models", "users"])
def test_a_condition_without_values_never_holds(name: str) -> None:
    assert not holds(name, principal=replace(ALICE, name=""), facts=replace(CHAT, model=""))


def test_values_replace_what_is_written_where_that_is_an_alias() -> None:
    aliased = condition("groups", ["staff"], ["7b0c"])
    assert policy(rule("r", Effect.ALLOW, [aliased])).decide(ALICE, CHAT).effect is Effect.ALLOW
    assert not holds("groups", "staff")


@pytest.mark.parametrize("name", ["models", "repositories"])
def test_a_condition_on_a_fact_the_request_lacks_does_not_hold(name: str) -> None:
    assert not holds(name, "*/*" if name == "repositories" else "*", facts=REPO)


TEXT_GLOBS = [
    ("gpt-*", "gpt-5", True),
    ("gpt-*", "gpt-", True),
    ("gpt-*", "my-gpt-5", False),
    ("gpt-5", "GPT-5", True),
    ("GPT-*", "gpt-5", True),
    ("gpt-5", "gpt-5-mini", False),
    ("gpt.5", "gptx5", False),
    ("gpt-?", "gpt-5", False),
    ("*a*b*", "xxaxxbxx", True),
    ("*a*b*", "xxbxxaxx", False),
    ("*", "any/thing\nat all", True),
    ("größe-*", "GRÖSSE-1", True),
    ("模型-*", "模型-1", True),
]


@pytest.mark.parametrize(("glob", "model", "expected"), TEXT_GLOBS)
def test_model_globs(glob: str, model: str, *, expected: bool) -> None:
    assert holds("models", glob, facts=replace(CHAT, model=model)) is expected


@pytest.mark.parametrize(
    ("glob", "host", "expected"),
    [
        ("*.githubcopilot.com", "api.githubcopilot.com", True),
        ("*.githubcopilot.com", "API.GitHubCopilot.com", True),
        ("*.githubcopilot.com", "api.githubcopilot.com.", True),
        ("*.githubcopilot.com", "githubcopilot.com", False),
        ("*.githubcopilot.com", "api.githubcopilot.com.evil.example", False),
        ("api.github.com", "apiXgithub.com", False),
    ],
)
def test_host_globs(glob: str, host: str, *, expected: bool) -> None:
    assert holds("hosts", glob, facts=replace(CHAT, host=host)) is expected


PATH_GLOBS = [
    ("/models", "/models", True),
    ("/models", "/models/", True),
    ("/models/", "/models", True),
    ("/models", "/models/x", False),
    ("/models/*", "/models/x", True),
    ("/models/*", "/models", False),
    ("/models/*", "/models/x/y", False),
    ("/repos/acme/**", "/repos/acme/x/pulls", True),
    ("/repos/acme/**", "/repos/acme", True),
    ("/repos/acme/**", "/repos/acmes/x", False),
    ("/repos/acme/**", "/REPOS/Acme/x", True),
    ("/repos/acme/**", "/repos/%61cm%65/x", True),
    ("/repos/acme/**", "/repos/%2561cme/x", False),
    ("/repos/**/pulls", "/repos/a/b/pulls", True),
    ("/repos/**/pulls", "/repos/pulls", True),
    ("/repos/**/pulls", "/repos/a/pulls/1", False),
    ("/repos/**/pulls/**", "/repos/a/b/pulls/1/files", True),
    ("/repos/**/secret-*/**", "/repos/a/secret-x", True),
    ("/repos/**/**/x", "/repos/x", True),
    ("/**/a/**/b", "/ab/a/b", True),
    ("/repos/a*b*c/z", "/repos/aXbXbXc/z", True),
    ("/repos/a*b*c/z", "/repos/aXb/bXc/z", False),
    ("/**", "/", True),
    ("/**", "/a/b", True),
    ("/*", "/", True),
    ("/", "/", True),
    ("/", "/a", False),
    ("/a.b", "/aXb", False),
    ("/files/**", "/files/a%0Ab/c", True),
    ("/straße", "/stra%C3%9Fe", True),
]


@pytest.mark.parametrize(("glob", "path", "expected"), PATH_GLOBS)
def test_path_globs(glob: str, path: str, *, expected: bool) -> None:
    assert holds("paths", glob, facts=replace(REPO, path=path)) is expected


@pytest.mark.parametrize(
    ("glob", "repository", "expected"),
    [
        ("acme/*", "acme/app", True),
        ("acme/*", "Acme/App", True),
        ("acme/*", "acme-evil/app", False),
        ("*/app", "acme/app", True),
        ("acme/app", "acme/app2", False),
    ],
)
def test_repository_globs(glob: str, repository: str, *, expected: bool) -> None:
    assert holds("repositories", glob, facts=replace(CHAT, repository=repository)) is expected


@pytest.mark.parametrize("glob", ["models", "", "//a", "/a//b", "/a**", "/**a", "/***", "/a?b", "/a b", "/%61", "/a#b"])
def test_a_malformed_path_glob_is_refused(glob: str) -> None:
    with pytest.raises(ValueError, match=r"expected a path|stand alone"):
        path_glob(glob)


@pytest.mark.parametrize("glob", ["*", "acme", "acme/", "/app", "acme/a/b", "acme/**", "**/a"])
def test_a_repository_glob_must_be_owner_and_name(glob: str) -> None:
    with pytest.raises(ValueError, match="OWNER/NAME"):
        condition("repositories", [glob])


def naive_path_match(glob: list[str], path: list[str]) -> bool:
    if not glob:
        return not path
    if glob[0] == "**":
        return any(naive_path_match(glob[1:], path[i:]) for i in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], glob[0]) and naive_path_match(glob[1:], path[1:])


SEGMENT = st.text("ab", min_size=1, max_size=4)
GLOB_SEGMENT = st.just("**") | st.text("ab*", min_size=1, max_size=4).filter(lambda s: "**" not in s)


@given(st.lists(GLOB_SEGMENT, min_size=1, max_size=5), st.lists(SEGMENT, min_size=1, max_size=5))
def test_path_globs_agree_with_a_naive_matcher(glob: list[str], path: list[str]) -> None:
    compiled = path_glob("/" + "/".join(glob))
    assert (compiled.fullmatch("/" + "/".join(path)) is not None) is naive_path_match(glob, path)


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=10))
def test_text_globs_agree_with_fnmatch(glob: str, model: str) -> None:
    assert holds("models", glob, facts=replace(CHAT, model=model)) is fnmatchcase(model, glob)


@pytest.mark.parametrize("glob", ["/**/a*/**/b*/**/c*/**/d", "/*a*a*a*a*a*a*a*b"])
@pytest.mark.parametrize("path", ["/" + "a" * 60_000, "/a/b/c" * 10_000])
def test_a_long_path_does_not_make_a_glob_slow(glob: str, path: str) -> None:
    compiled = path_glob(glob)
    started = time.perf_counter()
    compiled.fullmatch(path)
    assert time.perf_counter() - started < 1  # a few milliseconds; with backtracking it would be years


METADATA = (
    Passthrough("GET", None, path_glob("/models/**")),
    Passthrough("GET", Upstream.GITHUB_API, path_glob("/repos/**")),
)


@pytest.mark.parametrize(
    ("method", "upstream", "path", "expected"),
    [
        ("GET", Upstream.COPILOT_API, "/models", True),
        ("GET", Upstream.COPILOT_PROXY, "/models/x", True),
        ("POST", Upstream.COPILOT_API, "/models", False),
        ("get", Upstream.COPILOT_API, "/models", False),
        ("GET", Upstream.GITHUB_API, "/repos/a/b", True),
        ("GET", Upstream.COPILOT_API, "/repos/a/b", False),
    ],
)
def test_metadata_is_what_the_file_lists(method: str, upstream: Upstream, path: str, *, expected: bool) -> None:
    assert policy(metadata=METADATA).is_metadata(method, upstream, path) is expected
    assert not policy().is_metadata(method, upstream, path)


def test_credentials_are_all_names_the_file_refers_to() -> None:
    rules = [rule("a", Effect.ALLOW, [], credential="x"), rule("b", Effect.ALLOW, []), rule("c", Effect.DENY, [])]
    assert policy(*rules, credential="y").credentials() == {"x", "y"}
    assert policy().credentials() == frozenset()


def test_an_explanation_has_one_line_for_each_rule_up_to_the_one_that_decides() -> None:
    explained = policy(
        rule("bob", Effect.ALLOW, [condition("users", ["bob"]), condition("models", ["claude-*"])]),
        rule("dev", Effect.ALLOW, [condition("groups", ["developers"])]),
        rule("never", Effect.DENY, []),
    ).explain(ALICE, CHAT)
    assert explained == [
        Trial("bob", matched=False, why="users: alice, https://issuer#1, wanted bob; models: gpt-5, wanted claude-*"),
        Trial("dev", matched=True, why="allow: groups"),
    ]


def test_an_explanation_ends_with_the_default_and_names_facts_that_are_missing() -> None:
    explained = policy(rule("gpt", Effect.ALLOW, [condition("models", ["gpt-*"])])).explain(ALICE, REPO)
    assert explained[0].why == "models: the request has none, wanted gpt-*"
    assert explained[1] == Trial("default", matched=True, why="deny: no rule matched")


def test_an_explanation_does_not_list_hundreds_of_groups() -> None:
    many = replace(ALICE, groups=frozenset(f"g{i:03}" for i in range(200)))
    (first, _) = policy(rule("r", Effect.ALLOW, [condition("groups", ["x"])])).explain(many, CHAT)
    assert "g007 and 192 more" in first.why


NAMES = st.sampled_from(["a", "b", "c"])
PRINCIPALS = st.builds(
    Principal,
    id=NAMES.map("i#{}".format),
    name=NAMES,
    kind=st.sampled_from(["person", "workload"]),
    issuer=NAMES,
    subject=NAMES,
    groups=st.frozensets(NAMES),
    claims=st.dictionaries(NAMES, NAMES),
)
FACTS = st.builds(
    Facts,
    endpoint=st.sampled_from(EndpointKind),
    upstream=st.sampled_from(Upstream),
    method=st.sampled_from(["GET", "POST"]),
    host=NAMES,
    path=NAMES.map("/{}".format),
    model=st.none() | NAMES,
    repository=st.none() | NAMES.map("a/{}".format),
)
CONDITIONS = st.one_of(
    st.builds(
        condition, st.sampled_from(["groups", "users", "issuers", "models", "hosts", "claims.a"]), st.lists(NAMES)
    ),
    st.builds(condition, st.just("paths"), st.lists(NAMES.map("/{}".format), min_size=1)),
    st.builds(condition, st.just("repositories"), st.lists(NAMES.map("a/{}".format), min_size=1)),
    st.builds(condition, st.just("endpoints"), st.lists(st.sampled_from(EndpointKind))),
)


def rules_with(*effects: Effect) -> st.SearchStrategy[list[Rule]]:
    return st.lists(st.builds(rule, NAMES, st.sampled_from(effects), st.lists(CONDITIONS, max_size=3)), max_size=6)


@given(rules_with(Effect.DENY), PRINCIPALS, FACTS)
def test_without_an_allow_rule_everything_is_denied(rules: list[Rule], principal: Principal, facts: Facts) -> None:
    assert policy(*rules).decide(principal, facts).effect is Effect.DENY


@given(rules_with(Effect.ALLOW, Effect.DENY), PRINCIPALS, FACTS)
def test_an_allowed_request_is_allowed_by_a_rule_that_matches(
    rules: list[Rule], principal: Principal, facts: Facts
) -> None:
    allowing = [r for r in rules if r.decision.effect is Effect.ALLOW]
    alone = {policy(r).decide(principal, facts).effect for r in allowing}
    if policy(*rules).decide(principal, facts).effect is Effect.ALLOW:
        assert Effect.ALLOW in alone


@given(rules_with(Effect.ALLOW, Effect.DENY), st.lists(CONDITIONS, max_size=2), PRINCIPALS, FACTS)
def test_a_deny_rule_in_front_never_widens_access(
    rules: list[Rule], conditions: list[Condition], principal: Principal, facts: Facts
) -> None:
    narrower = policy(rule("deny", Effect.DENY, conditions), *rules).decide(principal, facts)
    assert narrower.effect is Effect.DENY or narrower == policy(*rules).decide(principal, facts)


@given(rules_with(Effect.ALLOW, Effect.DENY), PRINCIPALS, FACTS)
def test_an_explanation_ends_with_the_rule_that_decides(rules: list[Rule], principal: Principal, facts: Facts) -> None:
    *tried, last = policy(*rules).explain(principal, facts)
    assert last.matched
    assert last.rule_id == policy(*rules).decide(principal, facts).rule_id
    assert not any(trial.matched for trial in tried)


@pytest.mark.parametrize("name", ["https://issuer#1", "entra:tenant:object"])
def test_a_name_that_looks_like_an_id_is_not_taken_for_one(name: str) -> None:
    impostor = replace(ALICE, id="https://issuer#2", name=name)
    assert not holds("users", name, principal=impostor)
    assert holds("users", "https://issuer#2", principal=impostor)


def test_roles_of_the_token_are_matched() -> None:
    assert holds("roles", "Copilot.User", principal=replace(ALICE, roles=frozenset({"Copilot.User"})))
    assert not holds("roles", "Copilot.User")


def test_a_token_endpoint_is_never_metadata() -> None:
    everything = policy(metadata=(Passthrough("GET", None, path_glob("/**")),))
    assert everything.is_metadata("GET", Upstream.GITHUB_API, "/copilot_internal/user")
    assert not everything.is_metadata("GET", Upstream.GITHUB_API, "/copilot_internal/v2/token")
    assert not everything.is_metadata("GET", Upstream.GITHUB_API, "/COPILOT_INTERNAL/v2/nltoken")


def test_nothing_at_the_telemetry_hosts_is_metadata() -> None:
    everything = policy(metadata=(Passthrough("GET", None, path_glob("/**")),))
    assert everything.is_metadata("GET", Upstream.COPILOT_API, "/telemetry")
    assert not everything.is_metadata("GET", Upstream.TELEMETRY, "/telemetry")
    assert not everything.is_metadata("GET", Upstream.TELEMETRY, "/_ping")


def test_metadata_without_an_upstream_is_of_the_apis_alone() -> None:
    everything = policy(metadata=(Passthrough("GET", None, path_glob("/**")),))
    found = {upstream for upstream in Upstream if everything.is_metadata("GET", upstream, "/login/x")}
    assert found == {Upstream.COPILOT_API, Upstream.COPILOT_PROXY, Upstream.GITHUB_API}


def test_metadata_of_github_web_is_what_names_it() -> None:
    both = (Passthrough("GET", None, path_glob("/**")), Passthrough("GET", Upstream.GITHUB_WEB, path_glob("/login/**")))
    listed = policy(metadata=both)
    assert listed.is_metadata("GET", Upstream.GITHUB_WEB, "/login/x")
    assert not listed.is_metadata("GET", Upstream.GITHUB_WEB, "/other")
    assert not policy(metadata=both[1:]).is_metadata("GET", Upstream.GITHUB_API, "/login/x")


def test_without_a_word_telemetry_is_blocked_and_a_refusal_is_an_error() -> None:
    assert (policy().telemetry, policy().refusals) == ("block", "error")


# --- tunnels ---------------------------------------------------------------------------------------------------------

TUNNEL = Facts(EndpointKind.TUNNEL, Upstream.TUNNEL, "CONNECT", "packages.example.com", "")
OPENING = rule(
    "packages",
    Effect.ALLOW,
    [
        condition("groups", ["developers"]),
        condition("endpoints", ["tunnel"]),
        condition("hosts", ["packages.example.com", "*.mirror.example.com"]),
    ],
)


@pytest.mark.parametrize(
    ("host", "opened"),
    [
        ("packages.example.com", True),
        ("Packages.Example.COM.", True),
        ("a.mirror.example.com", True),
        ("a.b.mirror.example.com", True),
        ("mirror.example.com", False),
        ("notpackages.example.com", False),
        ("packages.example.com.evil.example", False),
        ("", False),
    ],
)
def test_a_tunnel_is_open_to_the_hosts_that_a_rule_lists(host: str, *, opened: bool) -> None:
    decision = policy(OPENING).decide(ALICE, replace(TUNNEL, host=host))
    assert decision.rule_id == ("packages" if opened else "default")


def test_a_tunnel_is_closed_to_others_than_those_whom_a_rule_names() -> None:
    assert policy(OPENING).decide(replace(ALICE, groups=frozenset()), TUNNEL).effect is Effect.DENY
    assert policy().decide(ALICE, TUNNEL).effect is Effect.DENY


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [condition("groups", ["developers"])],
        [condition("hosts", ["*"])],
        [condition("methods", ["CONNECT"])],
        [condition("upstreams", ["tunnel"])],
        [condition("endpoints", ["chat", "metadata"])],
    ],
)
def test_what_allows_everything_opens_no_tunnel(conditions: list[Condition]) -> None:
    everything = rule("everything", Effect.ALLOW, conditions)
    assert policy(everything).decide(ALICE, TUNNEL).rule_id == "default"
    assert policy(everything, OPENING).decide(ALICE, TUNNEL).rule_id == "packages"


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [condition("users", ["alice"])],
        [condition("hosts", ["packages.*"])],
        [condition("endpoints", ["chat", "tunnel"])],
        [condition("upstreams", ["tunnel"]), condition("methods", ["CONNECT"])],
    ],
)
def test_a_denial_is_about_tunnels_as_about_everything(conditions: list[Condition]) -> None:
    assert policy(rule("no", Effect.DENY, conditions), OPENING).decide(ALICE, TUNNEL).rule_id == "no"


@pytest.mark.parametrize(
    ("name", "value"), [("models", "*"), ("paths", "/**"), ("repositories", "*/*"), ("methods", "POST")]
)
def test_a_tunnel_shows_nothing_but_its_host(name: str, value: str) -> None:
    told = replace(TUNNEL, method="POST", path="/x", model="gpt-5", repository="acme/app")
    assert (
        policy(rule("no", Effect.DENY, [condition(name, [value])]), OPENING).decide(ALICE, told).effect is Effect.ALLOW
    )


def test_an_explanation_says_that_a_rule_which_allows_everything_opens_no_tunnel() -> None:
    everything = rule("everything", Effect.ALLOW, [])
    assert policy(everything, OPENING).explain(ALICE, TUNNEL) == [
        Trial("everything", matched=False, why="endpoints: only a rule that names tunnel opens one"),
        Trial("packages", matched=True, why="allow: groups, endpoints, hosts"),
    ]


@given(rules_with(Effect.ALLOW, Effect.DENY), PRINCIPALS, FACTS)
def test_no_tunnel_is_open_without_a_rule_that_names_tunnels(
    rules: list[Rule], principal: Principal, facts: Facts
) -> None:
    silent = [one for one in rules if not any("tunnel" in c.written for c in one.conditions if c.name == "endpoints")]
    facts = replace(facts, endpoint=EndpointKind.TUNNEL)
    assert policy(*silent).decide(principal, facts).effect is Effect.DENY


# --- which models are offered ----------------------------------------------------------------------------------------

MODEL_KINDS = (
    EndpointKind.CHAT,
    EndpointKind.RESPONSES,
    EndpointKind.MESSAGES,
    EndpointKind.COMPLETIONS,
    EndpointKind.EMBEDDINGS,
)


def offered(
    *conditions: Condition,
    endpoints: tuple[EndpointKind, ...] = (EndpointKind.CHAT,),
    upstream: Upstream = Upstream.COPILOT_API,
    principal: Principal = ALICE,
) -> bool:
    return policy(rule("only", Effect.ALLOW, conditions)).offers(
        principal, model="gpt-5", endpoints=endpoints, host="gateway.example", upstream=upstream, repository="acme/app"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("models", "GPT-*", True),
        ("models", "claude-*", False),
        ("endpoints", "chat", True),
        ("endpoints", "models", False),
        ("hosts", "gateway.example", True),
        ("hosts", "api.githubcopilot.com", False),
        ("methods", "POST", True),
        ("methods", "GET", False),
        ("upstreams", "copilot-api", True),
        ("upstreams", "copilot-proxy", False),
        ("repositories", "acme/*", True),
        ("repositories", "other/*", False),
        ("groups", "developers", True),
        ("groups", "admins", False),
    ],
)
def test_a_model_is_offered_where_a_prompt_for_it_would_be_allowed(name: str, value: str, *, expected: bool) -> None:
    assert offered(condition(name, [value])) is expected


def test_a_model_is_offered_if_any_of_its_endpoints_is_allowed() -> None:
    both = (EndpointKind.RESPONSES, EndpointKind.MESSAGES)
    assert offered(condition("endpoints", ["messages"]), endpoints=both)
    assert not offered(condition("endpoints", ["chat"]), endpoints=both)
    assert not offered(endpoints=())
    assert not offered(endpoints=(EndpointKind.GITHUB, EndpointKind.TUNNEL))


def test_a_denial_takes_a_model_out_of_what_is_offered() -> None:
    rules = [rule("no", Effect.DENY, [condition("models", ["o1*"])]), rule("all", Effect.ALLOW, [])]
    told = {
        model: policy(*rules).offers(
            ALICE, model=model, endpoints=MODEL_KINDS, host="h", upstream=Upstream.COPILOT_API, repository=None
        )
        for model in ("o1-mini", "gpt-5")
    }
    assert told == {"o1-mini": False, "gpt-5": True}


def test_completions_may_go_to_where_the_list_came_from_or_to_their_proxy() -> None:
    completions = (EndpointKind.COMPLETIONS,)
    assert offered(condition("upstreams", ["copilot-proxy"]), endpoints=completions)
    assert offered(condition("upstreams", ["copilot-api"]), endpoints=completions)
    assert not offered(condition("upstreams", ["copilot-api"]), endpoints=completions, upstream=Upstream.COPILOT_PROXY)


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_the_paths_of_models_are_those_of_their_endpoints(kind: EndpointKind) -> None:
    # A rule on the path that really is asked for must decide about the offer, too.
    asked = {
        EndpointKind.CHAT: "/chat/completions",
        EndpointKind.RESPONSES: "/responses",
        EndpointKind.MESSAGES: "/v1/messages",
        EndpointKind.COMPLETIONS: "/v1/engines/gpt-5/completions",
        EndpointKind.EMBEDDINGS: "/embeddings",
    }[kind]
    found = endpoint_of("POST", Upstream.COPILOT_API, asked)
    assert found is not None
    assert (found.kind, found.path) == (kind, asked)
    assert offered(condition("paths", [asked]), endpoints=(kind,))
    assert not offered(condition("paths", ["/other"]), endpoints=(kind,))


def test_a_list_of_models_is_judged_in_a_few_milliseconds() -> None:
    denials = [
        rule(f"r{i}", Effect.DENY, [condition("groups", ["developers"]), condition("models", [f"o{i}*"])])
        for i in range(19)
    ]
    many = policy(*denials, rule("all", Effect.ALLOW, []))
    started = time.perf_counter()
    for i in range(60):
        assert many.offers(
            ALICE, model=f"gpt-{i}", endpoints=MODEL_KINDS, host="h", upstream=Upstream.COPILOT_API, repository=None
        )
    assert time.perf_counter() - started < 0.25  # 1 ms on an idle machine


# --- protections -----------------------------------------------------------------------------------------------------

INFRA = touch_condition("files", ["infra/**"])
EDIT = Touch(Act.EDIT, "edit", "infra/prod.tf")


def protecting(*protections: Protection, rules: tuple[Rule, ...] = ()) -> Policy:
    return replace(policy(*rules), protections=protections)


def test_a_protection_decides_about_touches_and_never_about_a_request() -> None:
    denied = protecting(protection("no", Effect.DENY, [], [INFRA]), rules=(rule("all", Effect.ALLOW, []),))
    assert denied.decide(ALICE, CHAT).rule_id == "all"
    assert [trial.rule_id for trial in denied.explain(ALICE, CHAT)] == ["all"]
    assert [(one.rule_id, one.touches) for one in denied.judge(ALICE, CHAT, [EDIT])] == [("no", (EDIT,))]


def test_a_rule_about_requests_cannot_ask_for_an_approval() -> None:
    with pytest.raises(ValueError, match="touches"):
        rule("r", Effect.REQUIRE_APPROVAL, [])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("groups", "developers", True),
        ("groups", "admins", False),
        ("users", "bob", False),
        ("models", "gpt-*", True),
        ("models", "claude-*", False),
        ("endpoints", "chat", True),
        ("endpoints", "mcp", False),
        ("claims.ref", "refs/heads/*", True),
    ],
)
def test_a_protection_is_for_those_whose_conditions_hold(name: str, value: str, *, expected: bool) -> None:
    only = protecting(protection("no", Effect.DENY, [condition(name, [value])], [INFRA]))
    assert only.protects(ALICE, CHAT) is expected
    assert bool(only.judge(ALICE, CHAT, [EDIT])) is expected


def test_a_policy_without_protections_judges_nothing() -> None:
    assert not policy(rule("no", Effect.DENY, [])).protects(ALICE, CHAT)
    assert policy(rule("no", Effect.DENY, [])).judge(ALICE, CHAT, [EDIT]) == []
    assert protecting(protection("no", Effect.DENY, [], [INFRA])).judge(ALICE, CHAT, []) == []


def test_any_protection_that_is_concerned_is_reason_to_look() -> None:
    for_bob = protection("bob", Effect.DENY, [condition("users", ["bob"])], [INFRA])
    for_all = protection("all", Effect.DENY, [], [INFRA])
    assert not protecting(for_bob).protects(ALICE, CHAT)
    assert protecting(for_bob, for_all).protects(ALICE, CHAT)
    assert [one.rule_id for one in protecting(for_bob, for_all).judge(ALICE, CHAT, [EDIT])] == ["all"]


def test_the_repository_of_the_request_is_that_of_a_touch_that_names_none() -> None:
    of_app = protection("app", Effect.DENY, [], [touch_condition("repositories", ["acme/app"])])
    assert protecting(of_app).judge(ALICE, CHAT, [EDIT])
    assert not protecting(of_app).judge(ALICE, replace(CHAT, repository="acme/other"), [EDIT])


def test_an_explanation_of_a_touch_has_one_line_for_each_protection_up_to_the_one_that_decides() -> None:
    asked = ApprovalRule("asks", frozenset({"approvers"}))
    explained = protecting(
        protection("bob", Effect.DENY, [condition("users", ["bob"])], [touch_condition("acts", ["push"])]),
        protection("asks", Effect.REQUIRE_APPROVAL, [condition("groups", ["developers"])], [INFRA], approval=asked),
        protection("never", Effect.DENY, [], [INFRA]),
    )
    assert explained.explain_touch(ALICE, CHAT, EDIT) == [
        Trial("bob", matched=False, why="users: alice, https://issuer#1, wanted bob; acts: edit, wanted push"),
        Trial("asks", matched=True, why="require-approval: groups, files"),
    ]
    last = explained.explain_touch(ALICE, CHAT, Touch(Act.MERGE, "merge"))[-1]
    assert last == Trial("default", matched=True, why="allow: no protection matched")


TOUCHED = st.builds(
    Touch,
    act=st.sampled_from(Act),
    tool=NAMES,
    path=st.none() | NAMES.map("{}/x".format) | NAMES.map("/ws/{}/x".format),
    repository=st.none() | NAMES.map("a/{}".format),
    branch=st.none() | NAMES,
)
TOUCH_CONDITIONS = st.one_of(
    st.builds(touch_condition, st.just("files"), st.lists(NAMES.map("{}/**".format), min_size=1)),
    st.builds(touch_condition, st.just("acts"), st.lists(st.sampled_from(Act))),
    st.builds(touch_condition, st.sampled_from(["tools", "branches"]), st.lists(NAMES, min_size=1)),
    st.builds(touch_condition, st.just("repositories"), st.lists(NAMES.map("a/{}".format), min_size=1)),
)


def protections_with(*effects: Effect) -> st.SearchStrategy[list[Protection]]:
    return st.lists(
        st.builds(
            protection,
            NAMES,
            st.sampled_from(effects),
            st.lists(CONDITIONS, max_size=2),
            st.lists(TOUCH_CONDITIONS, min_size=1, max_size=2),
        ),
        max_size=5,
    )


@given(protections_with(Effect.ALLOW, Effect.DENY), PRINCIPALS, FACTS, TOUCHED)
def test_an_explanation_of_a_touch_ends_with_the_protection_that_decides(
    protections: list[Protection], principal: Principal, facts: Facts, touch: Touch
) -> None:
    explained = protecting(*protections)
    *tried, last = explained.explain_touch(principal, facts, touch)
    judged = explained.judge(principal, facts, [touch])
    assert last.matched
    assert [one.rule_id for one in judged] == ([last.rule_id] if last.why.startswith("deny") else [])
    assert not any(trial.matched for trial in tried)


@given(protections_with(Effect.ALLOW, Effect.DENY), PRINCIPALS, FACTS, st.lists(TOUCHED, max_size=4))
def test_touches_are_judged_each_for_itself(
    protections: list[Protection], principal: Principal, facts: Facts, touches: list[Touch]
) -> None:
    whole = protecting(*protections).judge(principal, facts, touches)
    alone = [one for touch in touches for one in protecting(*protections).judge(principal, facts, [touch])]
    assert sorted(str(touch) for one in whole for touch in one.touches) == sorted(
        str(touch) for one in alone for touch in one.touches
    )


@given(protections_with(Effect.ALLOW, Effect.DENY), protections_with(Effect.DENY), PRINCIPALS, FACTS, TOUCHED)
def test_a_denial_in_front_never_lets_more_pass(
    protections: list[Protection], denials: list[Protection], principal: Principal, facts: Facts, touch: Touch
) -> None:
    narrower = protecting(*denials, *protections).judge(principal, facts, [touch])
    assert narrower or not protecting(*protections).judge(principal, facts, [touch])
