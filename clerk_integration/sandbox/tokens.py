"""The signing key of an instance, and tokens like the ones that Clerk signs."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from clerk_integration.sandbox.parameters import (
    ControlParameters,
    choice,
    filled_text,
    integer,
    mapping,
    optional,
    required,
    text,
)
from clerk_integration.sandbox.records import Membership, Organization, random_id

MAX_LIFETIME_SECONDS = 3600

_SESSION_HEADER = {"typ": "JWT", "cat": "cl_B7d4PD111AAA"}
_HEADERS: Mapping[str, Mapping[str, str]] = {
    "session": _SESSION_HEADER,
    "v1": _SESSION_HEADER,
    "template": {"typ": "JWT", "cat": "cl_B7d4PD222AAA"},
    "oauth": {"typ": "at+jwt"},
    "machine": {"typ": "JWT", "cat": "cl_B7d4PD333AAA"},
}


class TokenRequest(ControlParameters):
    """The parameters of a token. By default, it is a valid session token of a user, without an organization.

    Other variants, signatures and lifetimes give tokens that are no valid session tokens. `expires_in` is in
    seconds and may be negative. `claims` and `header` override the default values; null removes a value.
    """

    user_id: str = required(filled_text)
    organization_id: str | None = optional(text)
    variant: str = optional(choice(*_HEADERS), "session")
    signature: str = optional(choice("valid", "forged", "none"), "valid")
    expires_in: int = optional(integer(-MAX_LIFETIME_SECONDS, 2**31), 60)
    claims: Mapping[str, Any] | None = optional(mapping)
    header: Mapping[str, Any] | None = optional(mapping)


Active = tuple[Organization, Membership]
"""The active organization of a session and the user's membership of it."""


class TokenIssuer:
    """Signs tokens with `private_pem`, or with a new key if it is None. `kid` is the id of the instance."""

    def __init__(self, kid: str, issuer: str, private_pem: str | None) -> None:
        self.kid = kid
        self.issuer = issuer
        self._key = _load_key(private_pem) if private_pem else _new_key()

    @property
    def private_pem(self) -> str:
        """The private key as PEM."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    @property
    def public_pem(self) -> str:
        """The public key as PEM, as Clerk's dashboard shows it."""
        return (
            self._key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set."""
        numbers = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        key = {"use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256"}
        return {"keys": [key | {"n": numbers["n"], "e": numbers["e"]}]}

    def sign(self, request: TokenRequest, active: Active | None, *, pending: bool) -> str:
        """Return the token. A forged token has the `kid` of this instance and a signature by another key."""
        claims = _overlay(self._claims(request, active, pending), request.claims or {})
        header = _overlay({"kid": self.kid, **_HEADERS[request.variant]}, request.header or {})
        if request.signature == "none":
            return jwt.encode(claims, "", algorithm="none", headers=header)
        key = self._key if request.signature == "valid" else _new_key()
        return jwt.encode(claims, key, algorithm="RS256", headers=header)

    def _claims(self, request: TokenRequest, active: Active | None, pending: bool) -> dict[str, Any]:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": request.user_id,
            "iat": now,
            "nbf": now - 10,
            "exp": now + request.expires_in,
            "jti": secrets.token_hex(10),
        }
        match request.variant:
            case "session":
                return claims | _session_claims(active, pending)
            case "v1":
                return claims | _v1_claims(active)
            case "oauth":
                return claims | {"client_id": "sandbox", "scope": "profile"}
            case "machine":
                return claims | {"sub": random_id("mch_"), "scopes": ""}
            case _:
                return claims


def _session_claims(active: Active | None, pending: bool) -> dict[str, Any]:
    """Return the claims of version 2. `o` is the active organization; its role has no prefix `org:`."""
    status = "pending" if pending else "active"
    claims: dict[str, Any] = {"sid": random_id("sess_"), "v": 2, "fva": [0, -1], "sts": status}
    if active is not None:
        organization, membership = active
        role = membership.role.removeprefix("org:")
        claims["o"] = _overlay({"id": organization.id, "rol": role}, {"slg": organization.slug})
    return claims


def _v1_claims(active: Active | None) -> dict[str, Any]:
    claims: dict[str, Any] = {"sid": random_id("sess_"), "fva": [0, -1]}
    if active is not None:
        organization, membership = active
        claims |= {"org_id": organization.id, "org_role": membership.role, "org_permissions": []}
        claims = _overlay(claims, {"org_slug": organization.slug})
    return claims


def _overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _load_key(private_pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(private_pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("The key is not an RSA key.")
    return key
