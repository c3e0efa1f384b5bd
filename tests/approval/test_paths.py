from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.paths import PathRule, readings

RULE = PathRule(["infra/**", "**/*.tf", ".github/workflows/**", "/README.md", "Makefile", "docs/secret/"])

HIDDEN = {
    "as it is": "infra/prod",
    "the directory itself": "infra",
    "here": "./infra/prod",
    "up and down": "infra/../infra/prod",
    "through another": "src/../infra/prod",
    "out and in again": "../proj/infra/prod",
    "many slashes": "infra//prod",
    "dots between": "infra/././prod",
    "backslashes": "INFRA\\prod",
    "backslashes and slashes": ".\\infra/prod",
    "a drive": "C:\\proj\\infra\\prod",
    "a drive and no slash": "C:infra\\prod",
    "UNC": "\\\\server\\share\\infra\\prod",
    "a long path of Windows": "\\\\?\\C:\\proj\\infra\\prod",
    "long UNC": "\\\\?\\UNC\\server\\share\\infra\\prod",
    "absolute": "/home/x/proj/infra/prod",
    "a link to the directory of a process": "/proc/self/cwd/infra/prod",
    "file URI": "file:///home/x/proj/infra/prod",
    "file URI whose host is the directory": "file://infra/prod",
    "file URI in upper case": "FILE:///C:/proj/infra/prod",
    "remote URI": "vscode-remote://ssh-remote%2Bhost/home/x/infra/prod?query#fragment",
    "URI without slashes": "untitled:infra/prod",
    "escaped": "%69nfra/prod",
    "escaped twice": "%2569nfra/prod",
    "escaped dots": "src/%2e%2e/infra/prod",
    "escaped dots twice": "src/%252e%252e/infra/prod",
    "escaped slash": "infra%2fprod",
    "escaped backslash": "infra%5Cprod",
    "upper case": "INFRA/PROD",
    "the dotless i of Turkish": "\u0131nfra/prod",
    "the dotted I of Turkish": "\u0130NFRA/prod",
    "full width": "\uff49nfra/prod",
    "full-width slash": "infra\uff0fprod",
    "full-width dots": "src/\uff0e\uff0e/infra/prod",
    "zero width": "in\u200bfra/prod",
    "zero width, escaped": "in%E2%80%8Bfra/prod",
    "soft hyphen": "in\u00adfra/prod",
    "from right to left": "\u202einfra\u202c/prod",
    "byte order mark": "\ufeffinfra/prod",
    "variation selector": "infra\ufe0f/prod",
    "dot at the end, for Windows": "infra./prod",
    "blank at the end, for Windows": "infra /prod",
    "stream of NTFS": "infra::$INDEX_ALLOCATION/prod",
    "short name of Windows": "INFRA~1/prod",
    "home": "~/proj/infra/prod",
    "home of somebody": "~alice/infra/prod",
    "working directory": "$PWD/infra/prod",
    "working directory in braces": "${PWD}/infra/prod",
    "workspace": "${workspaceFolder}/infra/prod",
    "working directory of Windows": "%CD%\\infra\\prod",
    "working directory of PowerShell": "$env:PWD\\infra\\prod",
    "a variable that may hold anything": "$DIR/prod",
    "blanks around": "  infra/prod\u00a0",
    "quotes around": '"infra/prod"',
    "in the directory for whom backslashes are letters": "infra/a\\..\\..\\src",
    "in the directory for whom escapes are letters": "infra/x%2f..%2f..%2fsrc/a.py",
    "in the directory for whom two dots are one letter": "infra/\u2025/src",
    "glob of a shell": "src/*.py",
    "question mark of a shell": "infr?/prod",
    "empty": "",
    "blank": "  ",
    "the root": "/",
    "here alone": ".",
    "up alone": "..",
    "back to the root": "src/..",
    "NUL": "src/a.py\0",
    "escaped NUL": "src/a.py%00",
    "line end": "infra/prod\n",
    "tab": "in\tfra/prod",
    "half a character": "\ud800",
    "too long": "a/" * 2049,
    "too long a name": "a" * 256,
    "too deep": "a/" * 101 + "b",
    "escaped without end": "%" + "25" * 100 + "41",
    "at any depth": "a/b/makefile",
    "by its ending": "/w/src/MAIN.TF",
    "hidden directory": ".GitHub/Workflows/ci.yml",
    "anchored": "readme.md",
    "directory only": "docs/secret/x",
    "a directory that holds it": "docs/",
    "a directory that holds it, of Windows": "docs\\",
}


@pytest.mark.parametrize("path", HIDDEN.values(), ids=HIDDEN.keys())
def test_a_protected_path_matches_however_it_is_spelled(path: str) -> None:
    assert RULE.matches(path)


OTHERS = ["src/a.py", "infrared/x", "src/infra/x", "/w/src/a.py", "infra/../src/a.py", "app/[slug]/page.tsx", "a.tfx"]
OTHERS += [
    "app/$id.tsx",
    "C:\\proj\\src\\a.py",
    "docs/README.md",
    "src\\a.py",
    "100%.txt",
    "makefile.bak",
    "docs/secrets",
]
OTHERS += [
    "github/workflows/x",
    "~/src/a.py",
    "a b/c d.py",
    "caf\u00e9.py",
    "file:///w/src/a.py#L1",
    "infra.py",
    "docs",
]


@pytest.mark.parametrize("path", OTHERS)
def test_other_paths_do_not_match(path: str) -> None:
    assert not RULE.matches(path)


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("*.tf", "a/b.tf", True),
        ("*.tf", "b.tf/c", True),
        ("infra/*.tf", "infra/a.tf", True),
        ("infra/*.tf", "infra/a/b.tf", False),
        ("infra/*.tf", "x/infra/a.tf", False),
        ("infra/*.tf", "/x/infra/a.tf", True),
        ("infra/*.tf", "../x/infra/a.tf", True),
        ("/infra", "x/infra", False),
        ("infra/", "x/infra/a", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b/c", True),
        ("a?[b-d]", "axc", True),
        ("[!a]x", "ax", False),
        ("\\!x", "!x", True),
        ("**", "anything", True),
        ("CAF\u00c9/**", "cafe\u0301/x", True),
        ("stra\u00dfe/x", "STRASSE/x", True),
    ],
)
def test_globs_mean_what_they_mean_to_git(glob: str, path: str, *, expected: bool) -> None:
    assert PathRule([glob]).matches(path) is expected


BAD = [
    "!a",
    "",
    "/",
    "#a",
    "[a",
    "[z-a]",
    "a\\",
    "a//b",
    "./a",
    "a/../b",
    "*a*b*c*",
    "**/**/**/**/a",
    "[[:alpha:]]",
    "a\n",
]


@pytest.mark.parametrize("glob", BAD)
def test_a_malformed_glob_is_named(glob: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        PathRule(["src/**", glob])
    assert str(caught.value).startswith(repr(glob))


def test_no_globs_protect_only_against_what_cannot_be_understood() -> None:
    assert not PathRule([]).matches("infra/prod.tf")
    assert PathRule([]).matches("..")


@pytest.mark.parametrize(
    ("glob", "directory", "expected"),
    [
        ("infra/prod/*.tf", "infra", True),
        ("infra/prod/*.tf", "infra/prod", True),
        ("infra/prod/*.tf", "infra/prod/x.tf/y", True),
        ("infra/prod/*.tf", "infra/dev", False),
        ("infra/prod/*.tf", "src", False),
        ("infra/**/x", "infra/a/b", True),
        ("infra/**", "infra", True),
        ("*.tf", "src", True),
        ("/infra", "src", False),
        ("infra/**", "/home/x", True),
        ("infra/**", ".", True),
        ("infra/**", "INFRA/", True),
    ],
)
def test_a_directory_counts_where_something_protected_may_lie_in_it(
    glob: str, directory: str, *, expected: bool
) -> None:
    assert PathRule([glob]).could_match_below(directory) is expected


TRICKY = st.text("infrapod/.\\%25eEfF~$:*?\u200b\uff0f\u0131 \"'[]{}-#", max_size=30) | st.text(max_size=30)


@given(TRICKY)
def test_reading_a_reading_gives_it_again(path: str) -> None:
    for reading in readings(path) or ():
        again = readings(reading)
        assert again is None or reading in again


@given(TRICKY, st.sampled_from(["infra/**", "*.tf", "a/**/b", "[a-c]?"]))
def test_no_path_makes_it_raise(path: str, glob: str) -> None:
    rule = PathRule([glob])
    assert rule.matches(path) <= rule.could_match_below(path)


SPELLINGS: list[Callable[[str], str]] = [
    lambda path: path.upper(),
    lambda path: "./" + path,
    lambda path: "x/../" + path,
    lambda path: path.replace("/", "\\"),
    lambda path: path.replace("/", "//"),
    lambda path: path.replace("/", "%2F"),
    lambda path: path.replace("a", "a\u200d"),
    lambda path: path.replace("a", "\uff41"),
    lambda path: path + ".",
    lambda path: path + " ",
]
ROOTS = ["", "/w/", "../", "file:///w/", "C:\\w\\", "$PWD/", "~/w/", "\\\\host\\w\\"]


@given(st.lists(st.sampled_from(SPELLINGS), max_size=5), st.sampled_from(ROOTS))
def test_a_protected_path_matches_under_any_tricks_together(tricks: list[Callable[[str], str]], root: str) -> None:
    path = "infra/alpha/prod"
    for trick in tricks:
        path = trick(path)
    assert RULE.matches(root + path)


@pytest.mark.parametrize(
    "path",
    ["/a" * 2000, "/".join(["a" * 40] * 99), "/".join(["a" * 250] * 16), "%25" * 1365, " x" * 2048, " " * 4000 + "x"],
)
def test_no_path_makes_matching_slow(path: str) -> None:
    rule = PathRule(["a/**/b/**/c", "*a*a*x", "**/a/**/a/**/b"])
    start = time.perf_counter()
    rule.matches(path)
    assert time.perf_counter() - start < 3
