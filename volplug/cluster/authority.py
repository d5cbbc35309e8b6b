"""The cluster's own authority: makes its key, and the certificates of nodes. Pure, but for keys' randomness.

A node's certificate is for TLS names below `volplug.internal`, which no resolver has: its own, and `signer`
if it has the authority's key. So TLS itself checks that the node that answers is the one that was meant, at
whatever address.
"""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from volplug.errors import InvalidRequest, PeerInvalid, Unsupported

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, KeyUsage

SIGNER: Final = "signer.volplug.internal"
NODE_CERTIFICATE_LASTS: Final = timedelta(days=90)
LISTED_CERTIFICATE_LASTS: Final = timedelta(days=365)  # renewed by people
_AUTHORITY_LASTS: Final = timedelta(days=3650)
_CLOCKS_DIFFER: Final = timedelta(hours=1)  # so long a certificate is valid before it is made
_LONGEST_PEM: Final = 8 * 1024


def tls_name(node: str) -> str:
    """Return the name of a node in its certificate."""
    return f"{node}.node.volplug.internal"


def fingerprint_of(pem: str) -> str:
    """Return the SHA-256 of the certificate in a text, in hexadecimal digits.

    Raises:
        PeerInvalid: If there is none.
    """
    return hashlib.sha256(_der_of(pem)).hexdigest()


def only_certificate(pem: str) -> str:
    """Return the certificate that `fingerprint_of` is about, without anything else that the text has.

    OpenSSL would trust all certificates of a text, and knows more ways to mark one.

    Raises:
        PeerInvalid: If there is none.
    """
    return ssl.DER_cert_to_PEM_cert(_der_of(pem))


def _der_of(pem: str) -> bytes:
    begin = pem.find("-----BEGIN CERTIFICATE-----")
    try:
        return ssl.PEM_cert_to_DER_cert(pem[max(begin, 0) :])
    except ValueError as error:
        raise PeerInvalid("what should be a certificate is none") from error


def check_installed() -> None:
    """Check that keys and certificates can be made here.

    Raises:
        Unsupported: If they cannot.
    """
    try:
        import cryptography.x509  # noqa: F401  # whether it can be
    except ImportError as error:
        raise Unsupported(
            f"certificates cannot be made: {error}", "Install volplug with its extra: volplug[cluster]"
        ) from error


def make_authority(cluster: str) -> tuple[str, str]:
    """Return the certificate and the key of a new authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"volplug cluster {cluster}"[:64])])
    now = datetime.now(UTC)
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + _AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(public, critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def make_request(name: str) -> tuple[str, str]:
    """Return a new key, and the request for its certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM).decode()


def sign(
    authority: str, authority_key: str, request: str, name: str, *, lasts: timedelta, is_signer: bool = False
) -> str:
    """Return a node's certificate. Of the request only the key is used.

    Raises:
        InvalidRequest: If the request is none, or for another kind of key.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    issuer = x509.load_pem_x509_certificate(authority.encode())
    key = serialization.load_pem_private_key(authority_key.encode(), None)
    try:
        asked = x509.load_pem_x509_csr(request[:_LONGEST_PEM].encode())
        is_right = asked.is_signature_valid and isinstance(asked.public_key(), ec.EllipticCurvePublicKey)
    except Exception as error:  # the parser has many kinds of them, for what a stranger sends
        raise InvalidRequest("the request for a certificate cannot be read") from error
    if not is_right or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidRequest("the request for a certificate is not signed by a key on an elliptic curve")
    now = datetime.now(UTC)
    names = [x509.DNSName(each) for each in (tls_name(name), *((SIGNER,) if is_signer else ()))]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(min(now + lasts, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate)


def check_issued(authority: str, key: str, certificate: str, name: str) -> None:
    """Check that a certificate is what this node has asked for.

    Raises:
        PeerInvalid: If it is not of this authority, key or name.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        issued = x509.load_pem_x509_certificate(certificate[:_LONGEST_PEM].encode())
        issued.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
        own = serialization.load_pem_private_key(key.encode(), None).public_key()
        names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_own = issued.public_key() == own and tls_name(name) in names.get_values_for_type(x509.DNSName)
    except Exception as error:  # as in `sign`
        raise PeerInvalid(
            f"the certificate that was issued cannot be used: {type(error).__name__}"
        ) from error
    if not is_own:
        raise PeerInvalid("the certificate that was issued is for another key or name")


def ends_at(certificate: str) -> datetime:
    """Return when a certificate, which is this node's own, expires."""
    from cryptography import x509

    begin = certificate.find("-----BEGIN CERTIFICATE-----")
    return x509.load_pem_x509_certificate(certificate[begin:].encode()).not_valid_after_utc


def _usage(*, is_authority: bool) -> KeyUsage:
    from cryptography.x509 import KeyUsage

    return KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
