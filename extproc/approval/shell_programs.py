"""Tables of what programs do to files and at GitHub, by their names and arguments. Pure.

Programs are taken for what their names say. Arguments are looked at joined by blanks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from extproc.approval.touch import Act

_ALWAYS: Final = re.compile("")
_NEVER: Final = re.compile("(?!)")


def _table(rows: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """Return an entry for each of the names in a row; "" is any arguments, "-" is none."""
    patterns = {"": _ALWAYS, "-": _NEVER}
    return {
        name: patterns.get(pattern) or re.compile(pattern if pattern[0] == "^" else f"(?:^| )(?:{pattern})")
        for names, pattern in rows.items()
        for name in names.split()
    }


# Programs that write nothing, and the arguments with which they do, or run other programs. `sed` reads when all it does
# is to print some lines; the second operand of `uniq` is what it writes to.
READERS: Final = _table(
    {
        "cat ls dir head tail wc pwd echo printf grep egrep fgrep zgrep stat du df which whereis whoami id uname": "-",
        "cut tr diff cmp comm basename dirname realpath readlink test [ true false sleep ps nl od jq column type": "-",
        "get-content get-childitem select-string test-path get-location get-item measure-object write-output": "-",
        "write-host resolve-path findstr gci gc sls fi done esac }": "-",
        "rg": "--pre",
        "tree": "-o|-R|--output",
        "file": r"-\w*C|--compile",
        "date": r"-\w*s|--set",
        "sort": r"-\w*[oT]|--[otc]",
        "uniq": r"[^-\s]",
        "find": "-exec|-ok|-delete|-fprint|-fls",
        "fd": r"-\w*[xX]|--exec",
        "sed": r"^(?!-n \d+(?:,(?:\d+|\$))?p(?: [^- ]\S*)*$)",
        "awk": r"^.*(?:[>|@]|system|getline)|(?:^| )-[ifelEDWp-]",
    }
)

# Programs that run code or unpack files that are not among their words.
UNDECIDED: Final = _table(
    {
        "eval exec xargs parallel patch tar bsdtar unzip cpio 7z ed ex iex invoke-expression invoke-command": "",
        "start-process source . awk gawk mawk find fd expect script crontab at batch trap alias busybox ssh su wsl": "",
        "node nodejs deno bun ruby perl php lua osascript rscript julia": r"$|-\w*[eEpr]|--eval|--print|-$|/dev/|repl",
        "python": r"$|-\w*c|-$|- |/dev/",
        "vim vi nvim emacs": "[-+]",
        "sed": r"-\w*f|--file|e(?: |$)|\S*[\d/;}$]e(?: |$)",
    }
)
# With one of these a shell runs what its words do not say.
SHELLS: Final = frozenset(["sh", "bash", "zsh", "dash", "ksh", "fish", "ash", "pwsh", "powershell", "cmd"])
SHELL_UNDECIDED: Final = re.compile(r"(?:^| )(?:-\w*s|-e\w*|/dev/|/proc/)", re.IGNORECASE)

# Before a program, these words leave it what it is.
WRAPPERS: Final = frozenset(
    ["sudo", "command", "builtin", "time", "nohup", "then", "do", "else", "if", "elif", "while", "until", "!", "{"]
)
MOVERS_OF_SHELL: Final = frozenset(["cd", "pushd", "chdir", "set-location", "sl"])

# Programs whose operands may be directories that go, come or move as a whole.
WHOLE: Final = _table(
    {
        "mv rsync ln rmdir rd move ren rename ditto robocopy shred remove-item move-item rename-item": "",
        "rm cp chmod chown ri del erase copy copy-item": r"-\w*[rRaf]|--r|--a|/s",
        "git": "rm |mv ",
    }
)
# Programs whose last operand may be the directory that the others go to.
INTO: Final = frozenset(["cp", "mv", "ln", "install", "rsync", "copy", "move", "copy-item", "move-item", "scp"])

# What changes no file of the work tree. What is in neither of these two may change any of them.
GIT_READS: Final = re.compile(
    r"(?:--no-pager |-P |-C [^-]\S* )*(?:(?:status|log|diff|show|rev-parse|rev-list|ls-files|ls-tree|ls-remote|blame"
    r"|grep|describe|shortlog|merge-base|cat-file|add|commit|fetch|stash list|stash show|remote -v|config --get"
    r"|(?:checkout -b|switch -c) [\w./-]+$|branch(?: -[avr]+| --list| --show-current)*$)(?: |$)"
    r"(?!.*(?:--output|--ext-diff|--textconv|--upload-pack|--open|(?: |^)-O))|remote$|--version$)"
)
GIT_DECIDED: Final = re.compile(
    r"(?:--no-pager |-C [^-]\S* )*"
    r"(?:(?:rm|mv|push|init|tag|branch|remote)(?: |$)|(?:checkout|restore)(?: [^-]\S*)? -- )"
)
GH_READS: Final = re.compile(
    r"(?:pr|issue|run|repo|release|workflow|label|search|cache|ruleset|gist|project|auth|status)"
    r" (?:view|list|ls|diff|checks|status|watch|code|issues|prs|repos|commits)(?: |$)"
    r"|api(?= )(?!.*(?: -[XfF]|--method|--field|--raw|--input|graphql))"
)

# What is done at GitHub: all the expressions of a row are found in the command, one after the other.
_ANY_ACT: Final = (Act.MERGE, Act.PUSH, Act.DISPATCH)
_GITHUB_API: Final = r"\bapi\.(?:github\.com|[\w-]+\.ghe\.com)\b"
_CURL_WRITES: Final = r"\s-\w*[XdFT]|--data|--json|--request|--form|--method|--post|--body|--upload|-Method|-Body"
_GH: Final = r"\bgh(?:\.exe)?\s"
AT_GITHUB: Final[tuple[tuple[tuple[re.Pattern[str], ...], tuple[Act, ...]], ...]] = tuple(
    (tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns), acts)
    for patterns, acts in (
        ((r"\bgit(?:\.exe)?\s", r"\b(?:push|send-pack|http-push|dcommit)\b"), (Act.PUSH,)),
        ((r"\b(?:gh|hub)(?:\.exe)?\s", r"\bmerge\b"), (Act.MERGE,)),
        ((_GH, r"\b(?:repo (?:sync|edit|rename|delete)|pr (?:update-branch|revert)|release create)\b"), (Act.PUSH,)),
        ((_GH, r"\b(?:workflow run|run rerun)\b"), (Act.DISPATCH,)),
        ((_GH, r"\bapi\b", r"\s-[XF]|--method|--field|--raw|--input|graphql"), _ANY_ACT),
        ((_GITHUB_API, _CURL_WRITES), _ANY_ACT),
        ((_CURL_WRITES, _GITHUB_API), _ANY_ACT),
    )
)
