"""The authorities that this machine's clients trust, and which of them is the gateway's."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extproc.doctor.tls import Authorities
from extproc.errors import ConfigError
from extproc.signin.authority import ADDING, REPLACING

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")  # RFC 7468 section 5
_BUNDLES: Final = (
    *("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"),
    "/etc/ssl/cert.pem",
)
_MAX_NAMED: Final = 10
"""Certificates in --ca-file: an authority, those above it and the one to come are few, and a bundle is no authority."""


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM texts: `in_use` is what clients here trust, `authorities` tell the gateway from everybody else."""

    in_use: str
    authorities: Authorities


def public_bundle() -> str:
    """Return the authorities that the system brings along, empty where it has none; raises ConfigError.

    Not those of SSL_CERT_FILE, which may hold the gateway's.
    """
    known = (ssl.get_default_verify_paths().openssl_cafile, *_BUNDLES)
    path = next((Path(path) for path in known if Path(path).is_file()), None)
    return "" if path is None else "\n".join(_certificates(path))


def trust_of(environ: Mapping[str, str], ca_file: Path | None, public: str, told: str | None) -> Trust:
    """Return whom clients with this environment trust; `told` is the authority of the gateway's profile.

    The gateway's are what `--ca-file` names, and what its profile tells and is not public. Only where there is neither,
    those of the environment that are not public are taken for it: with them may be that of somebody who reads all
    traffic of this network, and lets it out. Raises ConfigError.
    """
    everybody = _CERTIFICATE.findall(public)
    named = [] if ca_file is None else _certificates(ca_file)
    if ca_file is not None and not 0 < len(named) <= _MAX_NAMED:
        raise ConfigError(
            f"--ca-file: {ca_file} holds {len(named)} certificates; expected the gateway's authority alone"
        )
    replacing = [one for name in REPLACING if environ.get(name) for one in _certificates(Path(environ[name]))]
    adding = _certificates(Path(environ[ADDING])) if environ.get(ADDING) else []
    in_use = [*(replacing or everybody), *adding, *named]
    strangers = {_body(one) for one in everybody}
    known = [*named, *(one for one in _CERTIFICATE.findall(told or "") if _body(one) not in strangers)]
    own = known or [one for one in (*replacing, *adding) if _body(one) not in strangers]
    return Trust(_joined(in_use), Authorities(_joined(own), _without(everybody, named), is_guess=not known))


def _certificates(path: Path) -> list[str]:
    try:
        return _CERTIFICATE.findall(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise ConfigError(f"{path}: the certificates cannot be read ({error.strerror})") from None


def _body(pem: str) -> str:
    return "".join(pem.split())


def _without(pems: Iterable[str], others: Iterable[str]) -> str:
    left_out = {_body(one) for one in others}
    return _joined(one for one in pems if _body(one) not in left_out)


def _joined(pems: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(pems))
