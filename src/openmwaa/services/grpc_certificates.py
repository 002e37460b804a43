"""Certificates for SeaweedFS's internal gRPC: only holders of the key may call.

One certificate serves all of its parts, as server and as client. The authority's own key is
thrown away after signing, so no further certificate can ever be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openmwaa.services.users import ServiceUser

_VALID = timedelta(days=3650)
_RENEW_BEFORE = timedelta(days=60)
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class GrpcCertificates:
    """Files of the authority, the certificate and its key."""

    authority: Path
    certificate: Path
    key: Path


def ensure_grpc_certificates(folder: Path, user: ServiceUser) -> GrpcCertificates:
    """Return the certificates in `folder`, making them first if missing or about to expire."""
    files = GrpcCertificates(folder / "ca.crt", folder / "grpc.crt", folder / "grpc.key")
    if not _is_valid(files):
        authority, certificate, key = _issue()
        # The certificate comes last: a crash before it means that all are made again.
        user.write(files.authority, authority)
        user.write(files.key, key)
        user.write(files.certificate, certificate)
    return files


def _is_valid(files: GrpcCertificates) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - missing, torn or foreign: all mean "make them again"
        return False
    return files.key.exists() and certificate.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE


def _issue() -> tuple[bytes, bytes, bytes]:
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OpenMWAA object store authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "openmwaa-object-store")])
    authority = (
        _builder(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    certificate = (
        _builder(subject, issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return authority.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.PEM), private


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
    )
