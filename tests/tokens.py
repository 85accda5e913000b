"""Session tokens as Clerk mints them, and everything that only looks like one, with keys made at run time."""

import json
import time
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

USER_ID = "user_2bQv0Zy8bXr4t6nM1kJp9sLdEaA"
SESSION_ID = "sess_2bQv1Lk7cWs5u7oN2lKq0tMeFbB"
ORGANIZATION_ID = "org_2bQv2Mj6dVt6v8pO3mLr1uNfGcC"
ISSUER = "https://clerk.example.com"
KID = "ins_first"


@cache
def private_key(kid: str) -> RSAPrivateKey:
    """The private key that the test instance has under this key id."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(kid: str = KID) -> str:
    """The public key, as Clerk's dashboard shows it for CLERK_JWT_KEY."""
    pem = private_key(kid).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def jwk(kid: str = KID) -> dict[str, Any]:
    """The public key, as Clerk's JWKS lists it."""
    numbers: dict[str, Any] = RSAAlgorithm.to_jwk(private_key(kid).public_key(), as_dict=True)
    return {"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": numbers["n"], "e": numbers["e"]}


def session_claims(**changes: Any) -> dict[str, Any]:
    """The claims of a version 2 session token without an organization; None removes a claim."""
    now = int(time.time())
    claims = {
        "azp": "https://app.example.com",
        "exp": now + 60,
        "fva": [0, -1],
        "iat": now,
        "iss": ISSUER,
        "jti": "0123456789abcdef0123",
        "nbf": now - 10,
        "sid": SESSION_ID,
        "sts": "active",
        "sub": USER_ID,
        "v": 2,
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def session_token(*, kid: str = KID, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """A session token, signed with the key named `kid`, with changed claims."""
    wanted = {"kid": kid, "cat": "cl_B7d4PD111AAA", **(headers or {})}
    present = {name: value for name, value in wanted.items() if value is not None}
    return jwt.encode(session_claims(**changes), private_key(kid), algorithm="RS256", headers=present)


def forged_token(kid: str = KID) -> str:
    """A token that names the key `kid` and is signed with another one."""
    return jwt.encode(session_claims(), private_key("stranger"), algorithm="RS256", headers={"kid": kid})


def handmade_token(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token of any header and claims, put together without a library that might object."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
