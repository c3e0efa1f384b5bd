from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.errors import ConfigError
from extproc.masking.checks import CHECKS
from extproc.masking.detector import Detector, RuleSet, load
from extproc.masking.switched_off import SWITCHED_OFF
from tests.masking.corpus import FORMATS, Sample, harmless, samples, secret

SEED = 7
RANDOM = Random(SEED)  # noqa: S311 - test data, the same each time


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


@pytest.fixture(scope="module")
def detector(cache: Path) -> Detector:
    return load([RuleSet("secrets"), RuleSet("personal-data")], cache)


def found(detector: Detector, text: str) -> list[tuple[str, str]]:
    data = text.encode()
    return [(hit.rule, data[hit.start : hit.end].decode()) for hit in detector.scan(data)]


def covered(detector: Detector, sample: Sample) -> bool:
    start = sample.text.index(sample.secret)
    wanted = set(range(start, start + len(sample.secret)))
    for hit in detector.scan(sample.text.encode()):
        wanted -= set(range(hit.start, hit.end))
    return not wanted


def test_99_of_100_secrets_are_found_whole_in_every_form_they_are_written_in(detector: Detector) -> None:
    corpus = list(samples(SEED))
    missed = [(one.provider, one.form) for one in corpus if not covered(detector, one)]
    assert len(missed) <= len(corpus) * 0.01, missed


@pytest.mark.parametrize("provider", [name for name in FORMATS if name not in ("bearer", "sql-connection")])
def test_each_providers_secrets_are_found_each_time(detector: Detector, provider: str) -> None:
    for one in samples(SEED + 1):
        if one.provider == provider:
            assert covered(detector, one), one.form


def test_what_surrounds_a_secret_stays(detector: Detector) -> None:
    for provider in ("github-classic", "gitlab", "stripe-live", "npm", "anthropic", "google-api-key"):
        value = secret(provider, RANDOM)
        assert {text for _, text in found(detector, f"Use ({value}), please.")} == {value}, provider


def test_look_alikes_are_let_through(cache: Path) -> None:
    secrets = load([RuleSet("secrets")], cache)
    assert [text for text in harmless(SEED, 5) if secrets.scan(text.encode())] == []


def test_only_the_password_of_a_url_is_the_secret(cache: Path) -> None:
    secrets = load([RuleSet("secrets")], cache)
    assert found(secrets, "redis://cache:Xk39dJw2Lq@cache.example.net:6379/0") == [("url-password", "Xk39dJw2Lq")]


def test_hits_are_in_order_of_their_places_and_offsets_count_bytes(detector: Detector) -> None:
    first, second = secret("github-classic", RANDOM), secret("npm", RANDOM)
    data = f"größer 鍵 {first} und {second}".encode()
    hits = detector.scan(data)
    assert [data[hit.start : hit.end] for hit in hits if hit.rule in ("github-pat", "npm-access-token")] == [
        first.encode(),
        second.encode(),
    ]
    assert hits == sorted(hits, key=lambda hit: (hit.start, hit.end))


def test_text_that_could_be_taken_for_utf_16_keeps_its_offsets(detector: Detector) -> None:
    value = secret("github-classic", RANDOM).encode()
    for data in (b"\0a\0b\0 " + value, b"\xff\xfe " + value, b"\xfe\xff" + value, value + b"\0"):
        assert value in {data[hit.start : hit.end] for hit in detector.scan(data)}


def test_threads_scan_at_the_same_time(detector: Detector) -> None:
    texts = [one.text.encode() for one in samples(SEED)][:200]
    alone = [detector.scan(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.scan, texts * 4)) == alone * 4


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_are_scanned_and_hits_lie_inside(data: bytes) -> None:
    for hit in _SECRETS.scan(data):
        assert 0 <= hit.start < hit.end <= len(data)


_SECRETS = load([RuleSet("personal-data")], None)


# --- Personal data ---------------------------------------------------------------------------------------------------


def test_personal_data_is_found_by_form_and_checksum(detector: Detector) -> None:
    for rule, text in (
        ("payment-card", "4111 1111 1111 1111"),
        ("payment-card", "5555-5555-5555-4444"),
        ("payment-card", "378282246310005"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("email-address", "alice.smith+x@mail.example.org"),
        ("phone-number", "+49 30 901820"),
        ("phone-number", "+1 (555) 010-9999"),
    ):
        assert (rule, text) in found(detector, f"It is {text}."), text
        assert detector.set_of(rule) == "personal-data"


@pytest.mark.parametrize(
    "text",
    ["4111 1111 1111 1112", "1234 5678 9012 3456", "0000000000000000", "DE89 3704 0044 0532 0130 01", "+49 3", "a@b"],
)
def test_numbers_with_a_false_checksum_or_length_are_let_through(detector: Detector, text: str) -> None:
    assert found(detector, f"It is {text}.") == []


def test_personal_data_is_not_looked_for_unless_asked(cache: Path) -> None:
    assert load([RuleSet("secrets")], cache).scan(b"4111 1111 1111 1111, alice@example.org") == []


# --- Rules -----------------------------------------------------------------------------------------------------------


def test_rule_ids_fit_a_placeholder_and_have_a_set_and_a_pattern(detector: Detector) -> None:
    assert len(detector.patterns) > 350
    for rule, pattern in detector.patterns.items():
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", rule)
        assert pattern
        assert detector.set_of(rule) in ("secrets", "personal-data")


def test_rules_that_are_switched_off_find_nothing(detector: Detector) -> None:
    assert not SWITCHED_OFF.keys() & detector.patterns.keys()


def test_every_check_belongs_to_a_rule(detector: Detector) -> None:
    assert not CHECKS.keys() - detector.patterns.keys()


def test_the_digest_changes_with_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    digests = set()
    for pattern in ("acme_[a-z]{8}", "acme_[a-z]{9}"):
        file.write_text(f"rules: [{{id: acme, name: acme, pattern: '{pattern}'}}]")
        digests.add(load([RuleSet("own", file)], None).digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.yaml", "rules: [{id: acme.token, name: acme, pattern: 'acme_[a-z]{8}'}]"),
        (
            "own.toml",
            "[[rules]]\nid = 'acme.token'\ndescription = 'd'\nregex = '''acme_[a-z]{8}'''\nkeywords = ['acme_']\n",
        ),
    ],
)
def test_rules_of_a_file_are_used_with_short_ids(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    detector = load([RuleSet("company", file)], None)
    assert found(detector, "x acme_kwertyui.") == [("acme.token", "acme_kwertyui")]
    assert detector.set_of("acme.token") == "company"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("own.yaml", "rules: [{", "not YAML"),
        ("own.toml", "rules = [", "not TOML"),
        ("own.yaml", "", "expected `rules`"),
        ("own.yaml", "rules: []", "expected `rules`"),
        ("own.yaml", "rules: [{id: acme, name: a}]", "rule acme: expected `pattern`"),
        ("own.yaml", "rules: [{name: a, pattern: abcdef}]", "rule 1: expected `id`"),
        ("own.yaml", "rules: [{id: 'a b', name: a, pattern: abcdef}]", "rule 1: expected `id`"),
        ("own.yaml", "rules: [{id: acme, name: a, pattern: '(abcdef'}]", "acme"),
        ("own.yaml", "rules: [{id: acme, name: a, pattern: 'acme_(.)'}]", "rule acme: it may take a secret of fewer"),
        ("own.yaml", "rules: [{id: acme, name: a, pattern: '.*'}]", "rule acme: it may take a secret of fewer"),
        (
            "own.yaml",
            "rules: [{id: acme, name: a, pattern: abcdef}, {id: acme, name: b, pattern: abcdeg}]",
            "rule acme: there is already a rule of this id",
        ),
        ("own.yaml", "rules: [{id: github-pat, name: a, pattern: abcdef}]", "already a rule of this id"),
    ],
)
def test_a_broken_rule_file_is_told_with_its_name_and_rule(tmp_path: Path, name: str, content: str, told: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        load([RuleSet("secrets"), RuleSet("own", file)], None)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_an_unknown_pack_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load([RuleSet("own", tmp_path / "none.yaml")], None)
    with pytest.raises(ConfigError, match="rule set own: not built in"):
        load([RuleSet("own")], None)


def test_a_key_id_of_few_different_letters_is_one_all_the_same(detector: Detector) -> None:
    # One of four thousand random ones has so little entropy; made here from its parts, so that it stands nowhere.
    key = "AKIA" + "SSZAK72I" + "B7ABZA2A"
    assert found(detector, f"key = {key}\n") == [("aws-access-key-id", key)]
    assert found(detector, "key = AKIA" + "X" * 16) == []
