from __future__ import annotations

import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from extproc.certificates import authority, names
from extproc.certificates.operations import _moment
from extproc.errors import ConfigError
from extproc.intercepted import DEFAULT_HOSTS
from tests.certificates.handshake import NOW


def made(*hosts: str) -> x509.Certificate:
    return authority.create(hosts, _moment(NOW)).certificate


@pytest.mark.parametrize("host", DEFAULT_HOSTS)
def test_every_default_host_is_in_the_interception_names_and_permitted(host: str) -> None:
    assert host in names.proxy_names()
    assert names.permits(made(*names.proxy_names()), host)


def test_the_gateways_own_names_are_loopback_and_more_each_once() -> None:
    assert names.listener_names(["gateway.acme.example", "10.0.0.7", "localhost", "::1", "0:0:0:0:0:0:0:1"]) == (
        *("localhost", "127.0.0.1", "::1"),
        *("gateway.acme.example", "10.0.0.7"),
    )


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "a..b",
            "-a.example",
            "a-.example",
            "Gateway.example",
            "bücher.example",
            "a b.example",
            "a_b.example",
        ),
        *(
            "*",
            "*.",
            "a.*.example",
            "*a.example",
            f"{'a' * 64}.example",
            ".".join(["a" * 60] * 5),
            "1.2.3",
            "1.2.3.4.5",
        ),
        *("a.example\n", "a.example.", "https://a.example", "a.example:443", "300.1.1.1", "10.0.0.0/8"),
    ],
)
def test_what_cannot_be_in_a_certificate_is_refused_and_named(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be in a certificate") as raised:
        names.listener_names([name])
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("host", ["10.1.2.3", "*.com", "Api.github.com", f"{'a' * 64}.example"])
def test_what_cannot_be_intercepted_is_refused(host: str) -> None:
    with pytest.raises(ConfigError):
        names.proxy_names([host])


@pytest.mark.parametrize(
    ("name", "is_permitted"),
    [
        ("api.github.com", True),
        ("api.newplan.githubcopilot.com", True),
        ("acme.ghe.com", True),
        ("api.acme.ghe.com", True),
        ("*.acme.ghe.com", True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("10.0.0.8", True),  # not confined: see the module
        ("github.com", False),
        ("*.github.com", False),
        ("raw.githubusercontent.com", False),
        ("ghe.com", False),
        ("other.ghe.com", False),
        ("evilgithubcopilot.com", False),
        ("bank.example", False),
        ("com", False),
    ],
)
def test_an_authority_is_confined_to_what_it_was_made_for(name: str, is_permitted: bool) -> None:  # noqa: FBT001
    assert names.permits(made(*names.proxy_names(["*.acme.ghe.com"])), name) is is_permitted


def test_the_constraints_are_critical_and_as_few_as_possible() -> None:
    extension = made(*names.proxy_names(["*.acme.ghe.com", "api.acme.ghe.com"])).extensions.get_extension_for_class(
        x509.NameConstraints
    )
    assert extension.critical
    assert [one.value for one in extension.value.permitted_subtrees or ()] == [
        *("acme.ghe.com", "api.github.com", "copilot-proxy.githubusercontent.com"),
        *("copilot-telemetry.githubusercontent.com", "githubcopilot.com", "localhost"),
    ]
    assert extension.value.excluded_subtrees is None


@pytest.mark.parametrize(
    ("name", "is_permitted"),
    [
        ("a.example", True),
        ("*.a.example", False),
        ("*.b.example", True),
        ("x.a.example", False),
        ("y.x.a.example", False),
        ("10.1.2.3", True),
        ("10.1.3.3", False),
        ("10.2.0.1", False),
        ("fd00::1", False),
    ],
)
def test_the_constraints_of_others_are_read_in_full(name: str, is_permitted: bool) -> None:  # noqa: FBT001
    networks = [x509.IPAddress(ipaddress.ip_network(one)) for one in ("10.1.0.0/16", "10.1.3.0/24")]
    constraints = x509.NameConstraints(
        [x509.DNSName(".example"), networks[0]], [x509.DNSName("x.a.example"), networks[1]]
    )
    assert names.permits(certificate_with(constraints), name) is is_permitted


def certificate_with(constraints: x509.NameConstraints) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    at = _moment(NOW)
    dated = builder.serial_number(1).not_valid_before(at).not_valid_after(at + dt.timedelta(days=1))
    return dated.add_extension(constraints, critical=True).sign(key, hashes.SHA256())


def test_an_authority_without_constraints_permits_everything() -> None:
    free = certificate_with(x509.NameConstraints(None, [x509.DNSName("x.example")]))
    assert names.permitted_of(free) is None
    assert names.permits(free, "bank.example")


_LABELS = st.text("abc", min_size=1, max_size=2)
_NAMES = st.lists(_LABELS, min_size=2, max_size=4).map(".".join)


@given(st.lists(_NAMES, min_size=1, max_size=3), _NAMES)
def test_what_is_permitted_is_what_was_asked_for_and_what_is_below_it(asked: list[str], name: str) -> None:
    constraints = names.confinement(asked)
    expected = any(name == one or name.endswith("." + one) for one in asked)
    assert any(names._covers(one, x509.DNSName(name)) for one in constraints.permitted_subtrees or ()) is expected
