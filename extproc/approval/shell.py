"""Say which files a shell command names that it could write, and what it would do at GitHub. Pure.

This reads words, it is no shell: what a command could do that cannot be read off its words is undecided, and an
undecided command could write any file. `shell_programs` has the tables.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from extproc.approval.shell_programs import (
    AT_GITHUB,
    GH_READS,
    GIT_DECIDED,
    GIT_READS,
    INTO,
    MOVERS_OF_SHELL,
    READERS,
    SHELL_UNDECIDED,
    SHELLS,
    UNDECIDED,
    WHOLE,
    WRAPPERS,
)
from extproc.approval.touch import Act

# A command with more words, or with more shells within shells, is undecided.
_MAX_WORDS: Final = 500
_MAX_DEPTH: Final = 4
_MAX_CHARS: Final = 100_000

_OPERATORS: Final = "();<>|&\n"
_OPERATOR: Final = re.compile(r"<<<|<<-?|<>|<&|<|>>|>\||>&|&>>|&>|>|&&|\|\||\|&|[;|&()\n]")
_SUBSTITUTION: Final = re.compile(r"`|\$\(|\$\{[^}]*@|[<>]\(")
# `shlex` cannot tell an operator that is quoted from one that is none.
_QUOTED_OPERATOR: Final = re.compile(r"['\"][();<>|&\n]+['\"]|\\[();<>|&]")
_EXPANSION: Final = re.compile(r"[$`*?\[\]{}]|^~\w")
_KNOWN_VARIABLE: Final = re.compile(r"^\$(?:\{(?:PWD|HOME)\}|(?:PWD|HOME)(?!\w))")
_HARMLESS_TARGET: Final = re.compile(r"/dev/(?:null|stdout|stderr|tty|fd/[012])|[0-9-]+")
_INNER: Final = re.compile(r"[\s=,:;|&<>()\[\]{}'\"`@]+")
_RUN: Final = re.compile(r"-\w*c|/c|-command", re.IGNORECASE)


@dataclass(slots=True)
class Effects:
    """What a command could do: the words that may name what it writes, whether that may be anything, and the acts."""

    paths: dict[str, None] = field(default_factory=dict)
    undecided: bool = False
    acts: dict[Act, None] = field(default_factory=dict)

    def name(self, path: str) -> None:
        """Note a path, once."""
        if len(self.paths) < 2 * _MAX_WORDS:
            self.paths[path] = None
        else:
            self.undecided = True


@dataclass(slots=True)
class _Simple:
    """A simple command: a program with its words, and the files that its output goes to."""

    words: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    heredoc: bool = False


def effects_of(command: str, directory: str = "", *, posix: bool = False) -> Effects:
    """Return what a command could do that is run in `directory`, as far as its words say.

    With `posix` the shell is not one of Windows, where a backslash is no quote.
    """
    effects = Effects()
    # Without quotes, so that no way to quote what is done at GitHub hides it.
    flat = " ".join(re.sub(r"[\"'\\^`]", "", command).split())
    for patterns, acts in AT_GITHUB:
        at = 0
        if all((found := one.search(flat, at)) and (at := max(found.end() - 1, 0)) >= 0 for one in patterns):
            effects.acts.update(dict.fromkeys(acts))
    if len(command) > _MAX_CHARS:
        effects.undecided = True
        return effects
    _read(command, directory, effects, _MAX_DEPTH)
    if not posix and "\\" in command:
        _read(command.replace("\\", "/"), directory, effects, _MAX_DEPTH)
    return effects


def _read(command: str, directory: str, effects: Effects, depth: int) -> None:
    simple = _simple_commands(command)
    if simple is None or depth == 0 or sum(len(one.words) + len(one.targets) for one in simple) > _MAX_WORDS:
        effects.undecided = True
        for word in filter(None, _INNER.split(command)):
            effects.name(word)
        return
    programs = [_program(one.words) for one in simple]
    reads_only = all(_is_reader(name, words) for name, words in programs if name not in MOVERS_OF_SHELL)
    effects.undecided |= not reads_only and _QUOTED_OPERATOR.search(command) is not None
    for one, (name, words) in zip(simple, programs, strict=True):
        effects.undecided |= one.heredoc or any(_SUBSTITUTION.search(word) for word in one.words)
        for target in one.targets:
            effects.undecided |= _is_unclear(target)
            effects.name(_joined(directory, target))
        if name in MOVERS_OF_SHELL:
            directory = _moved(directory, words, effects)
        elif not reads_only:
            _take(one.words, directory, effects, depth)


def _moved(directory: str, words: list[str], effects: Effects) -> str:
    """Return where `cd` leads; whoever goes into a directory may write there with the next command."""
    target = words[-1] if words else "~"
    effects.undecided |= _is_unclear(target) or target == "-"
    # Up, nothing is named.
    if target.strip("./"):
        effects.name(_joined(directory, target))
    return _joined(directory, target)


def _take(words: list[str], directory: str, effects: Effects, depth: int) -> None:
    """Note what one program could write, in a command that does write something."""
    program, arguments = _program(words)
    if program in SHELLS and (run := _run_by_shell(arguments)):
        _read(run, directory, effects, depth - 1)
        return
    if not _is_reader(program, arguments):
        effects.undecided |= any(map(_is_unclear, words))
        # What stands in front may run what follows (`env X=1 python …`), so each word may be the program.
        programs = (_program(words[at:]) for at, word in enumerate(words) if at == 0 or word != ".")
        effects.undecided |= any(_is_undecided(*one) for one in programs)
    for path in filter(None, _paths(words)):
        effects.name(path)
        effects.name(_joined(directory, path))


def _run_by_shell(arguments: list[str]) -> str:
    """Return the command that a shell is given as an argument, or nothing."""
    run = next((at for at, word in enumerate(arguments) if _RUN.fullmatch(word)), len(arguments))
    return " ".join(arguments[run + 1 :])


def _paths(words: list[str]) -> Iterator[str]:
    """Yield every word that may name a path, and what programs like `cp` make of two of them."""
    whole = any(one in WHOLE and WHOLE[one].search(_line(words[at + 1 :])) for at, one in enumerate(words))
    operands = [word for word in words[1:] if word and not word.startswith("-")]
    for word in operands:
        # With a slash at its end a path is the directory as a whole.
        yield word.rstrip("/") or word
        if whole:
            yield word.rstrip("/") + "/"
    for word in words:
        # Within a word: `-Cx`, `of=x`, `HEAD:x`, `w x` of sed, `open('x')`.
        if re.match(r"-[^-].", word):
            yield word[2:]
        yield word.partition("=")[2]
        yield from (inner.rstrip("/") for inner in _INNER.split(word) if _is_path_like(inner))
    if len(operands) > 1 and not INTO.isdisjoint(words):
        yield from (f"{operands[-1].rstrip('/')}/{one.rstrip('/').rpartition('/')[2]}" for one in operands[:-1])


def _is_path_like(text: str) -> bool:
    return any(one in text for one in "/\\.") and any(map(str.isalnum, text))


def _is_reader(name: str, words: list[str]) -> bool:
    joined = _line(words)
    if name == "git":
        return GIT_READS.match(joined) is not None
    if name == "gh":
        return GH_READS.match(joined) is not None
    return name in READERS and not READERS[name].search(joined)


def _is_undecided(name: str, words: list[str]) -> bool:
    joined = _line(words)
    if name == "git":
        return not (GIT_DECIDED.match(joined) or GIT_READS.match(joined))
    if name in SHELLS:
        # Without a script its commands come from somewhere else; those of an argument are read where it stands first.
        is_script = any(not word.startswith("-") for word in words) and not _run_by_shell(words)
        return not is_script or SHELL_UNDECIDED.search(joined) is not None
    return name in UNDECIDED and UNDECIDED[name].search(joined) is not None


def _line(words: list[str]) -> str:
    # Without line ends, so that what the tables look for is found behind them.
    return " ".join(" ".join(words).split())


def _is_unclear(word: str) -> bool:
    """Say whether a shell would make another word, or several, of this one."""
    return _EXPANSION.search(_KNOWN_VARIABLE.sub("", word)) is not None


def _joined(directory: str, path: str) -> str:
    return path if not directory or re.match(r"[/\\~$]|\w:", path) else f"{directory.rstrip('/')}/{path}"


def _program(words: list[str]) -> tuple[str, list[str]]:
    """Return the name of the program that the words run, in lower case, and its arguments."""
    at = 0
    while at < len(words) and words[at].lower() in WRAPPERS:
        at += 1
    if at == len(words):
        return "true", []
    if "=" in words[at]:
        # What is assigned before a program may make it another.
        return "=", words[at:]
    name = re.sub(r"^(?:/usr(?:/local)?)?/bin/", "", words[at].lower().removesuffix(".exe"))
    bare = name.rpartition("/")[2]
    # In any other directory a program that is named as a reader may be another.
    name = name if bare in READERS or bare in {"git", "gh"} else bare
    return ("python" if re.fullmatch(r"(?:python|pypy|py)[\d.]*w?", name) else name), words[at + 1 :]


def _simple_commands(command: str) -> list[_Simple] | None:
    """Split a command into simple ones, or return None where its quotes cannot be read."""
    # A line that ends with a backslash goes on in the next.
    text = re.sub(r"\\(.)", lambda pair: "" if pair[1] == "\n" else pair[0], command, flags=re.DOTALL)
    lexer = shlex.shlex(re.sub("\r\n?", "\n", text), posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    commands = [_Simple()]
    waiting = ""
    try:
        for token in lexer:
            if not token or token.strip(_OPERATORS):
                _add(commands[-1], waiting, token)
                waiting = ""
                continue
            for operator in _OPERATOR.findall(token):
                waiting = operator if "<" in operator or ">" in operator else ""
                if not waiting:
                    commands.append(_Simple())
    except ValueError:
        return None
    return [one for one in commands if one.words or one.targets]


def _add(simple: _Simple, redirection: str, word: str) -> None:
    if not redirection:
        simple.words.append(word)
    elif redirection in {"<<", "<<-", "<<<"}:
        simple.heredoc = True
    elif redirection not in {"<", "<&"} and not _HARMLESS_TARGET.fullmatch(word):
        simple.targets.append(word)
