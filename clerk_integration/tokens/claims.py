"""Reading the claims of a verified session token, in both of Clerk's versions.

Version 2 packs the active organization into one claim:

    "v": 2, "fea": "o:articles,u:news", "o": {"id": "org_...", "slg": "acme", "rol": "admin",
                                              "per": "read,manage", "fpm": "3"}

`per` names permissions, `fea` features with their scope (`o` organization, `u` user), and `fpm` holds
one number per feature whose bits, lowest first, say which permissions are granted on it. Version 1
(deprecated by Clerk in April 2025) spells everything out: `org_id`, `org_role`, `org_slug`,
`org_permissions`. Clerk never puts its system permissions (`org:sys_...`) into a token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clerk_integration.entities import normalise_role
from clerk_integration.exceptions import InvalidClerkId, SessionTokenError
from clerk_integration.wire.ids import validate_org_id, validate_user_id


@dataclass(frozen=True, slots=True)
class ActiveOrganization:
    """The organization that is active in a session; all empty when none is."""

    id: str | None = None
    role: str | None = None
    slug: str | None = None
    permissions: frozenset[str] = frozenset()


def active_organization(claims: Mapping[str, Any]) -> ActiveOrganization:
    """Return the active organization, its role spelled as in the Backend API (`org:admin`).

    Raises SessionTokenError for claims of the wrong type.
    """
    return _version_2(claims) if claims.get("v") == 2 else _version_1(claims)  # noqa: PLR2004  (Clerk's number)


def user_id_claim(claims: Mapping[str, Any]) -> str:
    """Return `sub`, a user's id; machine tokens, whose `sub` is no user, raise SessionTokenError."""
    try:
        return validate_user_id(claims["sub"])
    except InvalidClerkId as exc:
        raise wrong_token_type() from exc


def required_text_claim(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim that is a string with something in it; raise SessionTokenError otherwise."""
    value = text_claim(claims, name)
    if value is None:
        raise invalid_token(f"its `{name}` is empty")
    return value


def text_claim(claims: Mapping[str, Any], name: str) -> str | None:
    """Return a claim that is a string, None for a missing or empty one; raise SessionTokenError."""
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid_token(f"its `{name}` is not a string")
    return value or None


def invalid_token(reason: str) -> SessionTokenError:
    """Return the error for a token that is malformed in the way that `reason` says."""
    return SessionTokenError(f"The session token is refused: {reason}.", code="token_invalid")


def wrong_token_type() -> SessionTokenError:
    """Return the error for a token of Clerk's that is not for signing in users."""
    return SessionTokenError(
        "This is not a session token. Tokens from JWT templates, OAuth and machine tokens are not "
        "accepted; send what getToken() returns without a template.",
        code="token_type_not_supported",
    )


def _version_1(claims: Mapping[str, Any]) -> ActiveOrganization:
    if (organization_id := _organization_id(claims, "org_id")) is None:
        return ActiveOrganization()
    permissions = claims.get("org_permissions") or []
    if not isinstance(permissions, list) or not all(isinstance(name, str) for name in permissions):
        raise invalid_token("its `org_permissions` is not a list of strings")
    return ActiveOrganization(
        id=organization_id,
        role=_role(text_claim(claims, "org_role")),
        slug=text_claim(claims, "org_slug"),
        permissions=frozenset(permissions),
    )


def _version_2(claims: Mapping[str, Any]) -> ActiveOrganization:
    organization = claims.get("o")
    if organization is None:
        return ActiveOrganization()
    if not isinstance(organization, Mapping):
        raise invalid_token("its `o` is not an object")
    if (organization_id := _organization_id(organization, "id")) is None:
        raise invalid_token("its `o` has no id")
    return ActiveOrganization(
        id=organization_id,
        role=_role(text_claim(organization, "rol")),
        slug=text_claim(organization, "slg"),
        permissions=_permissions(
            features=_parts(text_claim(claims, "fea")),
            names=_parts(text_claim(organization, "per")),
            masks=[_mask(part) for part in _parts(text_claim(organization, "fpm"))],
        ),
    )


def _organization_id(claims: Mapping[str, Any], name: str) -> str | None:
    value = text_claim(claims, name)
    try:
        return None if value is None else validate_org_id(value)
    except InvalidClerkId as exc:
        raise invalid_token(f"its `{name}` is no organization id") from exc


def _role(role: str | None) -> str | None:
    return None if role is None else normalise_role(role)


def _permissions(features: Sequence[str], names: Sequence[str], masks: Sequence[int]) -> frozenset[str]:
    """The granted permissions, as `org:<feature>:<permission>`.

    Clerk's SDKs disagree once features of users and organizations mix: the JavaScript one counts the
    numbers of `fpm` along the organization's features, the Python one along all of them, and nothing
    says which one the issuer means. Only what both readings grant is granted; without a mix they agree.
    """
    of_organization = [feature for feature in features if _is_of_organization(feature)]
    by_organization_feature = _granted(of_organization, names, masks)
    by_feature = _granted(features, names, masks)
    return by_organization_feature & by_feature


def _granted(features: Sequence[str], names: Sequence[str], masks: Sequence[int]) -> frozenset[str]:
    return frozenset(
        f"org:{feature.partition(':')[2]}:{name}"
        for feature, mask in zip(features, masks, strict=False)
        for bit, name in enumerate(names)
        if mask >> bit & 1 and _is_of_organization(feature)
    )


def _is_of_organization(feature: str) -> bool:
    """Scopes may be joined (`uo`), as in Clerk's JavaScript SDK."""
    scope, colon, name = feature.partition(":")
    return "o" in scope and bool(colon and name)


def _parts(value: str | None) -> list[str]:
    return [part.strip() for part in value.split(",")] if value else []


def _mask(part: str) -> int:
    """A number of `fpm`; anything that is none grants nothing."""
    try:
        return int(part) if part.isascii() and part.isdigit() else 0
    except ValueError:  # Python refuses to read numbers of thousands of digits
        return 0
