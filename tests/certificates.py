"""A throw-away authority, and folders as cert-manager's Secrets are mounted."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    def __init__(self, name: str = "throw-away") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key)
        self._own = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
            self._key, hashes.SHA256()
        )

    def issue(self, folder: Path, *names: str) -> int:
        """`tls.crt`, `tls.key`, `ca.crt` for these host names and 127.0.0.1. Returns the serial number.

        As a kubelet does it: the files are links into a folder that is swapped whole.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternative = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = _builder(subject, self._name, key)
        made = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False).sign(
            self._key, hashes.SHA256()
        )
        self._swap(folder, made, key)
        return made.serial_number

    def _swap(self, folder: Path, made: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        dated = folder / f"..{made.serial_number}"
        dated.mkdir(parents=True)
        pem = serialization.Encoding.PEM
        (dated / "tls.crt").write_bytes(made.public_bytes(pem))
        (dated / "ca.crt").write_bytes(self._own.public_bytes(pem))
        (dated / "tls.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (folder / "..new").symlink_to(dated.name)
        (folder / "..new").replace(folder / "..data")
        for name in ("tls.crt", "tls.key", "ca.crt"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
