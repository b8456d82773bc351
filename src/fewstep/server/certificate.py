"""A certificate of one's own: browsers lend a camera only to pages that came over HTTPS (or from this machine)."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fewstep.files import replacing, writing

DAYS = 365


def self_signed(folder: Path, host: str) -> tuple[Path, Path]:
    """(certificate, key) as PEM files in `folder`, made anew when missing, nearly expired or for another host."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not (key.is_file() and certificate.is_file() and _good(certificate, host)):
        _write(certificate, key, host)
    return certificate, key


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [
        x509.DNSName(name) for name in ("localhost", "queue.localhost", socket.gethostname())
    ]
    addresses = {"127.0.0.1", "::1", host}
    for address in sorted(addresses):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    return names


def _good(certificate: Path, host: str) -> bool:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    named = list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return found.not_valid_after_utc > soon and all(name in named for name in _names(host))


def _write(certificate: Path, key: Path, host: str) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fewstep on this machine")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(secret, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = secret.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with writing(certificate):
        certificate.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(private)
    with replacing(certificate) as whole:
        whole.write_bytes(made.public_bytes(pem))
