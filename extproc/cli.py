"""The command line: which module has which command, and how commands end. The only place that reads the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import typer

from extproc.errors import ConfigError, ExtprocError

_COMMANDS: Final = {
    "serve": "serve:serve",
    "console": "console:console",
    "policy": "policy:app",
    "ca": "ca:app",
    "store": "store:app",
    "keys": "keys:app",
    "doctor": "doctor:doctor",
    "drain": "drain:drain",
    "login": "login:login",
    "logout": "login:logout",
    "whoami": "login:whoami",
    "token": "login:token",
    "env": "env:env",
    "run": "run:run",
    "sessions": "sessions:app",
    "replay": "sessions:replay_session",
    "findings": "findings:app",
    "approvals": "approvals:app",
    "trace": "trace:trace",
    "verify": "verify:verify",
    "receipt": "receipt:receipt",
    "export": "export:export",
    "feed": "feed:feed",
    "retention": "retention:app",
    "dev": "dev:app",
}
"""Each command's module under `extproc.commands`, and its name there. Modules are imported when they are needed: all of
them take most of a second, and `extproc token` is called by programs that wait for it."""

# What follows the command to run is its own.
_CONTEXTS: Final = {"run": {"allow_interspersed_args": False}}


def application(arguments: Sequence[str]) -> typer.Typer:
    """Return the command line for `arguments`: with the command they name, or with all where they name none."""
    app = typer.Typer(
        help="Access control around GitHub Copilot traffic.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    # Without a second one, typer would take the only command for the application itself.
    app.callback()(lambda: None)
    asked = arguments[0] if arguments else ""
    for name in [asked] if asked in _COMMANDS else _COMMANDS:
        module, _, member = _COMMANDS[name].partition(":")
        found = getattr(import_module(f"extproc.commands.{module}"), member)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name, context_settings=_CONTEXTS.get(name))(found)
    return app


def main() -> None:
    """Run a command; errors of ours are one readable message and an exit code: 1 failed, 2 usage or configuration."""
    try:
        application(sys.argv[1:])(obj=os.environ)
    except ConfigError as error:
        print(f"extproc: {error}", file=sys.stderr)  # noqa: T201 - this is the terminal
        sys.exit(2)
    except ExtprocError as error:
        print(f"extproc: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except PermissionError as error:
        # The state directory is the service's alone: whoever runs a command as somebody else gets here first of all.
        if error.filename is None:
            raise
        print(f"extproc: {error.filename}: {error.strerror}; run it as the service's user", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        # A path that was given, such as --dir or --state-dir, is not what it has to be.
        if error.filename is None:
            raise
        print(f"extproc: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
