"""Read the claims of a verified session token, in both of Clerk's versions.

Version 2 holds the active organization in the claim `o`:

    "v": 2, "fea": "o:articles,u:news", "o": {"id": "org_...", "slg": "acme", "rol": "admin",
                                              "per": "read,manage", "fpm": "3"}

`per` names permissions. `fea` names features with their scope (`o` organization, `u` user). `fpm` holds one
number per feature. The bits of this number, lowest first, say which permissions are granted on the feature.
Version 1 (deprecated by Clerk in April 2025) has separate claims: `org_id`, `org_role`, `org_slug`,
`org_permissions`. Clerk never puts its system permissions (`org:sys_...`) into a token.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from clerk_integration.entities import normalise_role
from clerk_integration.exceptions import InvalidClerkId, SessionTokenError
from clerk_integration.wire.ids import validate_org_id, validate_user_id


class ActiveOrganization(NamedTuple):
    """The active organization of a session; all fields are empty if no organization is active."""

    id: str | None = None
    role: str | None = None
    slug: str | None = None
    permissions: frozenset[str] = frozenset()


def active_organization(claims: Mapping[str, Any]) -> ActiveOrganization:
    """Return the active organization, its role in the Backend API's form (`org:admin`).

    Raises SessionTokenError for claims of the wrong type.
    """
    return _version_2(claims) if claims.get("v") == 2 else _version_1(claims)  # noqa: PLR2004  (Clerk's number)


def user_id_claim(claims: Mapping[str, Any]) -> str:
    """Return `sub`, the user's id; raise SessionTokenError for a machine token, which has no user."""
    try:
        return validate_user_id(required_text_claim(claims, "sub"))
    except InvalidClerkId as exc:
        raise wrong_token_type() from exc


def required_text_claim(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim; raise SessionTokenError unless the claim is a non-empty string."""
    value = text_claim(claims, name)
    if value is None:
        raise invalid_token(f"its `{name}` is empty")
    return value


def text_claim(claims: Mapping[str, Any], name: str) -> str | None:
    """Return a string claim, or None if it is missing or empty; raise SessionTokenError for another type."""
    value = claims.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid_token(f"its `{name}` is not a string")
    return value or None


def time_claim(claims: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return a time in seconds; raise SessionTokenError unless it is a number, or missing with a default."""
    try:
        return int(claims.get(name, default))
    except (TypeError, ValueError, OverflowError) as exc:
        raise invalid_token(f"its `{name}` is not a time") from exc


def audience_claim(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values of `aud`; raise SessionTokenError for other types than strings."""
    audience = claims.get("aud")
    if audience is None:
        return ()
    named = audience if isinstance(audience, list) else [audience]
    if not all(name is None or isinstance(name, str) for name in named):
        raise invalid_token("its `aud` is neither a string nor a list of strings")
    return tuple(name for name in named if name is not None)


def invalid_token(reason: str) -> SessionTokenError:
    """Return the error for a malformed token."""
    return SessionTokenError(f"The session token is refused: {reason}.", code="token_invalid")


def wrong_token_type() -> SessionTokenError:
    """Return the error for a Clerk token that is not a session token."""
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
            text_claim(claims, "fea"), text_claim(organization, "per"), text_claim(organization, "fpm")
        ),
    )


def _organization_id(claims: Mapping[str, Any], name: str) -> str | None:
    value = text_claim(claims, name)
    try:
        return None if value is None else validate_org_id(value)
    except InvalidClerkId as exc:
        raise invalid_token(f"its `{name}` is not an organization id") from exc


def _role(role: str | None) -> str | None:
    return None if role is None else normalise_role(role)


@lru_cache(maxsize=256)  # The same for all members of an organization who have the same role.
def _permissions(fea: str | None, per: str | None, fpm: str | None) -> frozenset[str]:
    """Return the granted permissions, as `org:<feature>:<permission>`.

    Clerk's SDKs disagree if a token has features of users and of organizations. The JavaScript SDK assigns
    the numbers of `fpm` to the organization's features, the Python SDK to all features. This function returns
    only the permissions that both SDKs would grant.
    """
    features, names, masks = _parts(fea), _parts(per), [_mask(part) for part in _parts(fpm)]
    of_organization = [feature for feature in features if _is_of_organization(feature)]
    return _granted(of_organization, names, masks) & _granted(features, names, masks)


def _granted(features: Sequence[str], names: Sequence[str], masks: Sequence[int]) -> frozenset[str]:
    return frozenset(
        f"org:{feature.partition(':')[2]}:{name}"
        for feature, mask in zip(features, masks, strict=False)
        for bit, name in enumerate(names)
        if mask >> bit & 1 and _is_of_organization(feature)
    )


def _is_of_organization(feature: str) -> bool:
    """Return whether a feature belongs to an organization; scopes may be combined (`uo`)."""
    scope, colon, name = feature.partition(":")
    return "o" in scope and bool(colon and name)


def _parts(value: str | None) -> list[str]:
    return [part.strip() for part in value.split(",")] if value else []


def _mask(part: str) -> int:
    """Return one number of `fpm`; 0, which grants nothing, if the number is malformed."""
    try:
        return int(part) if part.isascii() and part.isdigit() else 0
    except ValueError:  # Python refuses to read numbers of thousands of digits
        return 0
