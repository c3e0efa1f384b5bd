"""Which token a console is told, and whom to trust for its certificate.

A kept sign-in is for one gateway, and its token goes to the console that this gateway named, whatever address an option
or a variable gives: a folder's settings may set EXTPROC_SERVER to draw it elsewhere.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from extproc.errors import ConfigError, ExtprocError
from extproc.secret import Secret
from extproc.signin.authority import trusting
from extproc.signin.current import signed_in_token
from extproc.signin.kept import SignIn, load
from extproc.signin.workload import checked_token


def token_for(server: str, given: str | None, environ: Mapping[str, str]) -> tuple[Secret, ssl.SSLContext]:
    """Return the token that is `given`, else that of the kept sign-in, and what trusts the console at `server`.

    The sign-in's authority is trusted where the console is its own. Raises ExtprocError and ConfigError.
    """
    kept = _kept(environ, needed=given is None)
    is_its_own = kept is not None and _is_console_of(server, kept)
    if given is not None:
        token = checked_token(given, "--token")
    elif kept is None:
        raise ConfigError("who asks? Run `extproc login`, or give --token, or --as with a development gateway")
    elif not is_its_own:
        raise ConfigError(_elsewhere(kept))
    else:
        token = Secret(signed_in_token(environ))
    return token, trusting(kept.profile.ca_pem if kept is not None and is_its_own else None)


def _kept(environ: Mapping[str, str], *, needed: bool) -> SignIn | None:
    try:
        return load(environ)
    except ExtprocError:
        # With a token of its own a command needs no sign-in, readable or not.
        if needed:
            raise
        return None


def _is_console_of(server: str, kept: SignIn) -> bool:
    console = kept.profile.console
    return console is not None and console.rstrip("/") == server.rstrip("/")


def _elsewhere(kept: SignIn) -> str:
    console = kept.profile.console
    if console is None:
        return "the sign-in names no console: run `extproc login` again, or give --token"
    return f"the sign-in is for the console {console}: name that one with --server, or give --token"
