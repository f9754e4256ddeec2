"""A certificate authority of the data directory and a certificate for the gateway, for where there is no other.

secrets/tls/ca.pem, ca.key          made once, ten years; clients trust ca.pem
secrets/tls/gateway.pem, .key       for the wanted names, a year; made anew before it ends or when names change
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pvf.stack.processes import write_atomically
from pvforecast.errors import InvalidInput

_CA_DAYS = 3_650
_DAYS = 365
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Certificate:
    """PEM files: chain and private key."""

    chain: Path
    key: Path


def ca_file(home: Path) -> Path:
    """What clients of a gateway with a certificate of our own trust."""
    return home / "secrets" / "tls" / "ca.pem"


def ensure(home: Path, names: list[str], now: datetime) -> Certificate:
    """The gateway's certificate, made or renewed where needed.

    Parameters
    ----------
    names : host names and IP addresses it is for.

    Raises
    ------
    InvalidInput
        a name is neither.
    """
    folder = ca_file(home).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = Certificate(folder / "gateway.pem", folder / "gateway.key")
    wanted = x509.SubjectAlternativeName([_name(name) for name in names])
    ca, ca_key = _authority(folder, now)
    if not _good(found, wanted, ca, now):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("pvf gateway", ca.subject, key, now, _DAYS).add_extension(wanted, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        write_atomically(found.key, _key_pem(key))
        write_atomically(found.chain, _pem(builder.sign(ca_key, hashes.SHA256())))
    return found


def _authority(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    chain, key_file = folder / "ca.pem", folder / "ca.key"
    if not chain.exists() or not key_file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        subject = "pvf local certificate authority"
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        builder = _builder(subject, issuer, key, now, _CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_SIGNS, critical=True)
        write_atomically(key_file, _key_pem(key))
        write_atomically(chain, _pem(builder.sign(key, hashes.SHA256())))
    loaded = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(chain.read_bytes()), loaded


def _good(found: Certificate, wanted: x509.SubjectAlternativeName, ca: x509.Certificate, now: datetime) -> bool:
    if not found.chain.exists() or not found.key.exists():
        return False
    certificate = x509.load_pem_x509_certificate(found.chain.read_bytes())
    key = serialization.load_pem_private_key(found.key.read_bytes(), password=None)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        names == wanted
        and certificate.issuer == ca.subject
        and certificate.public_key() == key.public_key()  # a start that was cut off between the two files
        and certificate.not_valid_after_utc - now > timedelta(days=_RENEW_DAYS)
    )


def _builder(
    subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - timedelta(hours=1))  # clocks differ
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text.encode("idna").decode())
    except UnicodeError as error:
        raise InvalidInput(
            f"{text!r} is no host name", field="PVF_GATEWAY_TLS_NAMES", hint="names and IP addresses, comma-separated"
        ) from error


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
