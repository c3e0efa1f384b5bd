from __future__ import annotations

import string
from random import Random
from re import _constants as op  # type: ignore[attr-defined]
from typing import Any

import pytest

from extproc.masking.anchors import _parsed, anchors
from extproc.masking.channel import Channel
from tests import detecting
from tests.masking.running import rules, run

DETECTOR = detecting.loaded()
ANCHORS = anchors(DETECTOR.patterns.items(), DETECTOR.patterns)
PRINTABLE = [char for char in string.printable if not char.isspace()] + [" "]
CATEGORIES = {
    op.CATEGORY_DIGIT: string.digits,
    op.CATEGORY_NOT_DIGIT: string.ascii_letters,
    op.CATEGORY_WORD: string.ascii_letters + string.digits + "_",
    op.CATEGORY_NOT_WORD: " -=:;",
    op.CATEGORY_SPACE: " \t",
    op.CATEGORY_NOT_SPACE: string.ascii_letters + string.digits + "!#%",
}
# Their only finds in made-up texts are secrets over several lines, of which each line is a word of its own.
SEVERAL_LINES = {"jwt-base64"}
# Nothing made up passes their checks, entropies or unbounded demands; the corpus has samples of the first.
NOT_SAMPLED = 8


def one_of(items: Any, random: Random) -> str:
    negated, chars = False, set()
    for what, detail in items:
        if what is op.NEGATE:
            negated = True
        elif what is op.LITERAL:
            chars.add(chr(detail))
        elif what is op.RANGE:
            chars.update(map(chr, range(detail[0], min(detail[1], 126) + 1)))
        elif what is op.CATEGORY:
            chars.update(CATEGORIES[detail])
    some = sorted(set(PRINTABLE) - chars if negated else chars)
    usual = [char for char in some if char.isalnum()]
    return random.choice(usual if usual and random.random() < 0.93 else some)


def matching(nodes: Any, random: Random) -> str:
    """Return a text that a pattern matches, but for what it demands around it."""
    parts = []
    for kind, value in nodes:
        if kind is op.LITERAL:
            parts.append(chr(value))
        elif kind is op.ANY:
            parts.append(".")
        elif kind in {op.IN, op.NOT_LITERAL}:
            items = value if kind is op.IN else [(op.NEGATE, None), (op.LITERAL, value)]
            parts.append(one_of(items, random))
        elif kind is op.SUBPATTERN:
            parts.append(matching(value[3], random))
        elif kind is op.BRANCH:
            parts.append(matching(random.choice(value[1]), random))
        elif kind in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
            low, high, inner = value
            count = random.randint(low, min(high, low + random.choice([0, 1, 3, 30])))
            parts += [matching(inner, random) for _ in range(count)]
    return "".join(parts)


def found_texts(rule: str) -> list[tuple[str, str]]:
    """Return texts in which the detector finds a secret by a rule, and the secrets."""
    random = Random(rule)  # noqa: S311 - test data, the same each time
    tree = _parsed(DETECTOR.patterns[rule])
    texts = []
    for _ in range(60):
        text = f"It is: {matching(tree, random)} and so on.\n"
        secrets = [text[hit.start : hit.end] for hit in DETECTOR.scan(text.encode()) if hit.rule == rule]
        texts += [(text, secret.strip()) for secret in secrets[:1]]
        if len(texts) >= 4:
            break
    return texts


def shown(secret: str, masked: str) -> str:
    """Return what stands of a secret right before the first placeholder."""
    before = masked.partition("[MASKED:")[0]
    sizes = (size for size in range(min(len(secret), len(before)), 1, -1) if before.endswith(secret[:size]))
    return secret[: next(sizes, 0)]


@pytest.fixture(scope="module")
def sampled() -> dict[str, list[tuple[str, str]]]:
    return {rule: found_texts(rule) for rule in DETECTOR.patterns}


def test_what_any_rule_finds_is_masked_from_its_first_character_on_whole_and_in_pieces(
    sampled: dict[str, list[tuple[str, str]]],
) -> None:
    wrong = {}
    for rule, texts in sampled.items():
        for text, secret in texts:
            whole = run(Channel(rules()), [text])
            if run(Channel(rules()), list(text)) != whole or secret in whole[0]:
                wrong[rule] = (text, whole[0])
            elif rule not in ANCHORS.odd and "//" not in text and (part := shown(secret, whole[0])):
                wrong[rule] = (text, f"{whole[0]} shows {part}")
    assert {rule: why for rule, why in wrong.items() if rule not in SEVERAL_LINES} == {}
    assert len([rule for rule, texts in sampled.items() if not texts]) <= NOT_SAMPLED


def test_rules_that_may_begin_with_any_word_are_few_and_known() -> None:
    assert ANCHORS.wide == frozenset()
    assert ANCHORS.odd == {"azure-devops-pat", "maxmind-license-key", "terraform-cloud-token"}
    assert anchors(DETECTOR.patterns.items()).wide == ANCHORS.odd


def test_of_odd_rules_what_reads_like_a_word_before_the_first_digit_or_capital_shows_and_no_more() -> None:
    text = "abcDe1" + "".join(Random(1).choices(string.ascii_letters + string.digits, k=70)) + "AZDOx1y2"  # noqa: S311
    masked, found = run(Channel(rules()), list(f"It is {text} there"))
    assert found
    assert masked == "It is abc[MASKED:azure-devops-pat] there"


@pytest.mark.parametrize(
    ("pattern", "text", "begins"),
    [
        (r"ghp_[a-z]{4}", "ghp_x", True),
        (r"ghp_[a-z]{4}", "gh", True),
        (r"ghp_[a-z]{4}", "gha", False),
        (r"(?i)AB(?:c|d)\d{4}", "abD1", True),
        (r"\b(x[0-9]{3,9})", "x1", True),
        (r"\b(x[0-9]{3,9})", "xy", False),
    ],
)
def test_a_head_is_told_by_the_letters_there_are(pattern: str, text: str, begins: bool) -> None:  # noqa: FBT001
    assert anchors([("a", pattern)]).begins(text, 0, len(text)) is begins


def test_a_keyword_before_a_secret_is_found_in_any_case() -> None:
    found = anchors([("a", r"(?i)heroku[\s:=]{1,4}([0-9a-f]{8})")])
    assert found.keyword_ends("é HEROKU: ") == [8]
    assert found.heads == frozenset()


@pytest.mark.parametrize("pattern", ["[a-z]{20}", r"\w{20}", r"(?<!a|bc)x\p{L}+", r"(a|b)*+\Kx"])
def test_a_pattern_without_a_beginning_of_its_own_or_that_is_not_understood_is_wide(pattern: str) -> None:
    assert anchors([("a", pattern)]).wide == {"a"}
    assert anchors([("a", pattern)], {"a"}).odd == {"a"}
