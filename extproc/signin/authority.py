"""Put the gateway's authority into files that clients can name, together with what they trusted before."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from extproc.errors import ConfigError
from extproc.signin.kept import NoFolder, config_folder
from extproc.signin.profile import Profile

ADDING = "NODE_EXTRA_CA_CERTS"
"""Names authorities beside those that a program has."""
REPLACING = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Name authorities in place of those that a program has."""
_NO_CERTIFICATE = "the gateway's profile: ca_pem holds no certificate (PEM)"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")  # RFC 7468 section 5
# Where systems keep them in one file (Go's crypto/x509, root_linux.go); a Python built elsewhere does not know that.
_SYSTEM_BUNDLES = (
    *("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"),
    # Alpine, macOS.
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    """`added` holds the gateway's authority, for programs that add it; `bundle` the system's as well."""

    added: Path
    bundle: Path


def write_authority(profile: Profile, environ: Mapping[str, str], folder: Path | None = None) -> AuthorityFiles | None:
    """Write the gateway's authority into `folder`, by default where the sign-in is; None where the gateway has none.

    Each file is named by its content, so that gateways do not take each other's place. What `environ` names already is
    in the files too. Raises NoFolder where they cannot be written, ConfigError for what is no certificate.
    """
    if profile.ca_pem is None:
        return None
    own = _certificates(profile.ca_pem.encode())
    if not own:
        raise ConfigError(_NO_CERTIFICATE)
    added = [*own, *_named(ADDING, environ)]
    before = _of_system(environ)
    for variable in REPLACING:
        before += _named(variable, environ)
    folder = folder or config_folder(environ)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return AuthorityFiles(_put(folder, "ca", added), _put(folder, "ca-bundle", [*before, *own]))
    except OSError as error:
        told = f"{folder}: the gateway's authority cannot be written there ({error.strerror})"
        raise NoFolder(f"{told}: set XDG_CONFIG_HOME to a folder that can be written") from None


@contextmanager
def authority_written(profile: Profile, environ: Mapping[str, str]) -> Iterator[AuthorityFiles | None]:
    """Have the files for a while: where no folder of the user's can be written, in a temporary one of theirs alone."""
    with ExitStack() as stack:
        try:
            files = write_authority(profile, environ)
        except NoFolder as none:
            try:
                temporary = tempfile.TemporaryDirectory(prefix="extproc-", ignore_cleanup_errors=True)
            except OSError:
                raise ConfigError(f"{none}; nor is there a temporary folder (TMPDIR)") from None
            files = write_authority(profile, environ, Path(stack.enter_context(temporary)))
        yield files


def remove_authorities(environ: Mapping[str, str]) -> None:
    """Remove what `write_authority` left; raises ConfigError."""
    try:
        for path in config_folder(environ).glob("ca-*.pem"):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{error.filename}: it cannot be removed ({error.strerror})") from None


def trusting(ca_pem: str | None) -> ssl.SSLContext:
    """Return what trusts the system's authorities and that of the gateway's profile; raises ConfigError."""
    tls = ssl.create_default_context()
    if ca_pem is not None:
        try:
            tls.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError, TypeError):  # the last for what is not ASCII
            raise ConfigError(_NO_CERTIFICATE) from None
    return tls


def _certificates(pem: bytes) -> list[bytes]:
    return _CERTIFICATE.findall(pem)


def _named(variable: str, environ: Mapping[str, str]) -> list[bytes]:
    if not (path := environ.get(variable)):
        return []
    try:
        return _certificates(Path(path).read_bytes())
    except OSError as error:
        told = f"{variable} names {path}, which cannot be read ({error.strerror})"
        raise ConfigError(f"{told}: name a file of certificates, or unset the variable") from None


def _of_system(environ: Mapping[str, str]) -> list[bytes]:
    """Return the authorities that the system trusts, as far as they are in one file; none where another is named."""
    if environ.get("SSL_CERT_FILE"):
        return []
    known = (ssl.get_default_verify_paths().openssl_cafile, *_SYSTEM_BUNDLES)
    path = next((path for path in known if Path(path).is_file()), None)
    try:
        return _certificates(Path(path).read_bytes()) if path else []
    except OSError as error:
        raise ConfigError(f"{path}: the system's authorities cannot be read ({error.strerror})") from None


def _put(folder: Path, kind: str, certificates: Iterable[bytes]) -> Path:
    # Within a command that `extproc run` started, what is named already has ours. Two certificates on one line are none
    # (RFC 7468 section 3).
    content = b"".join(one + b"\n" for one in dict.fromkeys(certificates))
    path = folder / f"{kind}-{hashlib.sha256(content).hexdigest()[:8]}.pem"
    if not path.exists() or path.read_bytes() != content:
        # Another client may read it at this moment; and a name of its own, for two commands may begin together.
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    return path
