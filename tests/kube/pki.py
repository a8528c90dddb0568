"""Throw-away keys and certificates of a test cluster. `identities.py` says who gets which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID_DAYS = 30


@dataclass(frozen=True)
class Authority:
    """Who vouches for all certificates of a cluster."""

    key: ec.EllipticCurvePrivateKey
    certificate: Path

    @classmethod
    def create(cls, certificate: Path) -> Authority:
        """A new authority; its own certificate lies at `certificate`, its key nowhere."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("kubernetes-ca")
        plain = _certificate(key, name, name).add_extension(x509.BasicConstraints(True, None), critical=True)
        certificate.write_bytes(_signed(plain, key))
        return cls(key, certificate)

    def issue(self, stem: Path, common_name: str, *, organization: str = "", addresses: list[str]) -> None:
        """A key and a certificate, at `stem`.key and `stem`.crt, for a client or a server at `addresses`.

        An address is a DNS name or an IP address.
        """
        key = write_key(stem.with_suffix(".key"))
        issuer = _name("kubernetes-ca")
        plain = _certificate(key, _name(common_name, organization), issuer)
        if addresses:
            names = x509.SubjectAlternativeName([_general_name(each) for each in addresses])
            plain = plain.add_extension(names, critical=False)
        stem.with_suffix(".crt").write_bytes(_signed(plain, self.key))


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new private key, as PEM at `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return key


def write_public_key(key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    """The public half of `key`, as PEM at `path`."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


def _certificate(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
    )


def _signed(plain: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    return plain.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(common_name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)
