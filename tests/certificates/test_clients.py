"""What real TLS clients make of the authority: OpenSSL by Python, its command line, Node, and a verifier in Rust."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from extproc.certificates import authority, leaf, operations
from extproc.certificates.operations import Wanted
from extproc.intercepted import DEFAULT_HOSTS
from tests.certificates.handshake import DAY, certificate, client, refusal, server, shake

NOTHING = Wanted()
OPENSSL, NODE = shutil.which("openssl"), shutil.which("node")
IN_CI = os.environ.get("CI") == "true"


def ignoring_its_limits(folder: Path, *names: str) -> Path:
    """Put an interception leaf in place that the authority is not confined to, as a thief of its key would."""
    leaf.make(folder, leaf.INTERCEPTION, names, authority.read(folder).current, operations._moment(time.time()))
    return folder


# Each answers None where it accepts what is in proxy.crt for a name, else why not.


def by_python(folder: Path, name: str) -> str | None:
    why = refusal(client(folder / "ca.pem"), server(folder), name)
    return None if why == "it accepted" else why


def by_rust(folder: Path, name: str) -> str | None:
    store = Store([certificate(folder / "ca.pem")])
    try:
        subject: x509.DNSName | x509.IPAddress = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    try:
        PolicyBuilder().store(store).build_server_verifier(subject).verify(certificate(folder / "proxy.crt"), [])
    except VerificationError as error:
        return str(error)
    return None


def by_openssl(folder: Path, name: str) -> str | None:
    assert OPENSSL is not None, "openssl is not installed"
    option = "-verify_ip" if name[0].isdigit() else "-verify_hostname"
    flags = ["-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore", "-CAfile", str(folder / "ca.pem")]
    ran = subprocess.run(  # noqa: S603 - the arguments are ours
        [OPENSSL, "verify", *flags, option, name, str(folder / "proxy.crt")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return None if ran.returncode == 0 else ran.stderr


def by_node(folder: Path, name: str) -> str | None:
    assert NODE is not None, "Node is not installed"
    with listening(server(folder)) as port:
        asked = {"host": "127.0.0.1", "port": port} | ({} if name[0].isdigit() else {"servername": name})
        script = f"""
            const socket = require("tls").connect({json.dumps(asked)}, () => socket.destroy())
            socket.on("error", error => {{ console.error(error.message); process.exit(1) }})
        """
        ran = subprocess.run(  # noqa: S603
            [NODE, "-e", script],
            capture_output=True, text=True, check=False, timeout=60,
            env={"NODE_EXTRA_CA_CERTS": str(folder / "ca.pem")},
        )  # fmt: skip
    return None if ran.returncode == 0 else ran.stderr


@contextmanager
def listening(context: ssl.SSLContext) -> Iterator[int]:
    """Shake hands with one client on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(1)
                except OSError:
                    return  # it did not accept, or is gone

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


Judge = Callable[[Path, str], str | None]
JUDGES = [
    pytest.param(by_python, id="python"),
    pytest.param(by_rust, id="rust"),
    pytest.param(
        by_openssl, id="openssl", marks=pytest.mark.skipif(not (OPENSSL or IN_CI), reason="NOT TESTED: no openssl here")
    ),
    pytest.param(by_node, id="node", marks=pytest.mark.skipif(not (NODE or IN_CI), reason="NOT TESTED: no Node here")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    operations.ensure(folder, ["*.acme.ghe.com"], time.time())
    return folder


@pytest.mark.parametrize("judge", JUDGES)
def test_a_confined_authority_is_accepted_for_what_it_may_sign(folder: Path, judge: Judge) -> None:
    for name in ("api.githubcopilot.com", "api.acme.ghe.com", "api.github.com"):
        assert judge(folder, name) is None, name


@pytest.mark.parametrize("judge", JUDGES)
def test_a_wildcard_covers_one_label_only(folder: Path, judge: Judge) -> None:
    assert judge(folder, "copilot-api.acme.ghe.com") is None
    for name in ("acme.ghe.com", "a.b.acme.ghe.com", "other.ghe.com"):
        assert judge(folder, name) is not None, name


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("name", ["github.com", "bank.example"])
def test_what_the_authority_is_not_confined_to_is_refused_even_when_signed(
    tmp_path: Path, judge: Judge, name: str
) -> None:
    operations.ensure(tmp_path, (), time.time())
    # Loopback is permitted, so the same certificate is good until a forbidden name is in it.
    assert judge(ignoring_its_limits(tmp_path, "127.0.0.1", "localhost"), "127.0.0.1") is None
    why = judge(ignoring_its_limits(tmp_path, "127.0.0.1", name), "127.0.0.1")
    assert why is not None
    # In their words: "permitted subtree violation", "no permitted name constraints matched".
    assert "permitted" in why


@pytest.mark.parametrize("host", DEFAULT_HOSTS)
def test_every_default_host_shakes_hands(folder: Path, host: str) -> None:
    assert shake(client(folder / "ca.pem"), server(folder), host) == certificate(folder / "proxy.crt")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_gateways_own_listener_shakes_hands(folder: Path, name: str) -> None:
    assert shake(client(folder / "ca.pem"), server(folder, "tls"), name) == certificate(folder / "tls.crt")


def test_a_client_without_the_authority_refuses(folder: Path, tmp_path: Path) -> None:
    operations.ensure(tmp_path, (), time.time())
    assert "unable to get local issuer" in refusal(client(), server(folder), "api.github.com")
    assert "unable to get local issuer" in refusal(client(tmp_path / "ca.pem"), server(folder), "api.github.com")


def test_an_expired_leaf_is_refused(tmp_path: Path) -> None:
    operations.init(tmp_path, NOTHING, time.time() - 91 * DAY)
    assert refusal(client(tmp_path / "ca.pem"), server(tmp_path), "api.github.com") == "certificate has expired"
    operations.renew(tmp_path, NOTHING, time.time())
    shake(client(tmp_path / "ca.pem"), server(tmp_path), "api.github.com")


def test_a_rotation_cuts_off_nobody_who_took_the_new_ca_pem_in_time(tmp_path: Path) -> None:
    now = time.time()
    operations.init(tmp_path, NOTHING, now)
    only_old = client(tmp_path / "ca.pem")
    new = operations.announce(tmp_path, NOTHING, now).certificate
    both = client(tmp_path / "ca.pem")
    only_new = client(new.public_bytes(serialization.Encoding.PEM))

    announced = server(tmp_path)
    for one in (only_old, both):
        shake(one, announced, "api.github.com")
    assert "unable to get local issuer" in refusal(only_new, announced, "api.github.com")

    operations.finish(tmp_path, NOTHING, now)
    finished = server(tmp_path)
    for one in (only_new, both, client(tmp_path / "ca.pem")):
        assert shake(one, finished, "api.github.com").issuer == new.subject
    assert "unable to get local issuer" in refusal(only_old, finished, "api.github.com")

    operations.forget(tmp_path, now)
    shake(client(tmp_path / "ca.pem"), finished, "api.github.com")
    # What was signed before the rotation is not accepted any more.
    shake(both, announced, "api.github.com")
    assert "unable to get local issuer" in refusal(client(tmp_path / "ca.pem"), announced, "api.github.com")
