"""The signing key of an instance and the tokens that Clerk would sign with it."""

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from clerk_integration.sandbox.identifiers import random_id
from clerk_integration.sandbox.records import MembershipView, User

Variant = Literal["session", "v1", "template", "oauth", "machine"]
Signature = Literal["valid", "forged", "none"]

VARIANTS: tuple[Variant, ...] = ("session", "v1", "template", "oauth", "machine")
SIGNATURES: tuple[Signature, ...] = ("valid", "forged", "none")

LIFETIME_SECONDS = 60
"""How long Clerk's session tokens live."""

_SESSION_HEADER = {"typ": "JWT", "cat": "cl_B7d4PD111AAA"}
_HEADERS: Mapping[Variant, Mapping[str, str]] = {
    "session": _SESSION_HEADER,
    "v1": _SESSION_HEADER,
    "template": {"typ": "JWT", "cat": "cl_B7d4PD222AAA"},
    "oauth": {"typ": "at+jwt"},
    "machine": {"typ": "JWT", "cat": "cl_B7d4PD333AAA"},
}


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a token shall say; `claims` and `header` are laid over the rest, null removes."""

    user: User
    membership: MembershipView | None = None
    variant: Variant = "session"
    signature: Signature = "valid"
    expires_in: int = LIFETIME_SECONDS
    pending: bool = False
    claims: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)


class TokenIssuer:
    """Signs tokens as the instance `kid`, with a key made at start."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.issuer = ""
        """The Frontend API's address; known once the server has its port."""
        self._key = _new_key()

    @property
    def public_pem(self) -> str:
        """The public key as PEM, as Clerk's dashboard shows it."""
        return (
            self._key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        numbers = self._key.public_key().public_numbers()
        return {
            "keys": [
                {
                    "use": "sig",
                    "kty": "RSA",
                    "kid": self.kid,
                    "alg": "RS256",
                    "n": _base64_integer(numbers.n),
                    "e": _base64_integer(numbers.e),
                }
            ]
        }

    def sign(self, request: TokenRequest) -> str:
        """Make the token; a forged one carries our kid and a stranger's signature."""
        claims = _overlay(self._claims(request), request.claims)
        header = _overlay({"kid": self.kid, **_HEADERS[request.variant]}, request.header)
        if request.signature == "none":
            return jwt.encode(claims, "", algorithm="none", headers=header)
        key = self._key if request.signature == "valid" else _new_key()
        return jwt.encode(claims, key, algorithm="RS256", headers=header)

    def _claims(self, request: TokenRequest) -> dict[str, Any]:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": request.user.id,
            "iat": now,
            "nbf": now - 10,
            "exp": now + request.expires_in,
            "jti": secrets.token_hex(10),
        }
        match request.variant:
            case "session":
                return claims | _session_claims(request)
            case "v1":
                return claims | _v1_claims(request)
            case "oauth":
                return claims | {"client_id": "sandbox", "scope": "profile"}
            case "machine":
                return claims | {"sub": random_id("mch_"), "scopes": ""}
            case _:
                return claims


def _session_claims(request: TokenRequest) -> dict[str, Any]:
    """Version 2: `o` only with an active organization, its role without the `org:` prefix."""
    claims: dict[str, Any] = {
        "sid": random_id("sess_"),
        "v": 2,
        "fva": [0, -1],
        "sts": "pending" if request.pending else "active",
    }
    view = request.membership
    if view is not None:
        claims["o"] = {
            "id": view.organization.id,
            "rol": view.membership.role.removeprefix("org:"),
            **({"slg": view.organization.slug} if view.organization.slug else {}),
        }
    return claims


def _v1_claims(request: TokenRequest) -> dict[str, Any]:
    claims: dict[str, Any] = {"sid": random_id("sess_"), "fva": [0, -1]}
    view = request.membership
    if view is not None:
        claims |= {
            "org_id": view.organization.id,
            "org_role": view.membership.role,
            "org_permissions": [],
            **({"org_slug": view.organization.slug} if view.organization.slug else {}),
        }
    return claims


def _overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _base64_integer(value: int) -> str:
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
