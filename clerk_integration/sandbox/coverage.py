"""A table of the endpoints of Clerk's Backend API. Tests compare the table with the sandbox's routes."""

from typing import Literal, NamedTuple

Coverage = Literal["supported", "partial", "missing"]


class Endpoint(NamedTuple):
    """One endpoint of Clerk's API, and how much of the endpoint the sandbox emulates."""

    method: str
    path: str
    coverage: Coverage
    notes: str = ""


_ONE_ROLE_SET = "the only role set is role_set:default"
_ELEVATED = "include_missing_member_with_elevated_permissions is accepted and adds nothing"
_USER_DATA = "users have no phones, wallets, passkeys, external accounts or sign-ins"
_MEMBER_FILTERS = "filters: user_id, email_address, username, phone_number, query, role"
_USER_FILTERS = "filters: user_id, email_address, username, phone_number, query, external_id, organization_id"
_NO_INVITATIONS = "invitations are not emulated"
_NO_DOMAINS = "domains are not emulated"
_FIXED_ROLES = "roles come from /sandbox/settings"

COVERAGE: tuple[Endpoint, ...] = (
    Endpoint("GET", "/.well-known/jwks.json", "supported", "Frontend API; needs no key"),
    Endpoint("GET", "/v1/jwks", "supported"),
    Endpoint("GET", "/v1/instance", "supported"),
    Endpoint("PATCH", "/v1/instance", "missing"),
    Endpoint("GET", "/v1/instance/organization_settings", "supported"),
    Endpoint("PATCH", "/v1/instance/organization_settings", "partial", "no domains; role ids as role_admin"),
    Endpoint("GET", "/v1/organizations", "partial", _ELEVATED),
    Endpoint("POST", "/v1/organizations", "supported", _ONE_ROLE_SET),
    Endpoint("GET", "/v1/organizations/{organization_id}", "partial", _ELEVATED),
    Endpoint("PATCH", "/v1/organizations/{organization_id}", "supported", "metadata is refused: 2026-05-12"),
    Endpoint("DELETE", "/v1/organizations/{organization_id}", "supported"),
    Endpoint("PATCH", "/v1/organizations/{organization_id}/metadata", "supported"),
    Endpoint("PUT", "/v1/organizations/{organization_id}/metadata", "supported"),
    Endpoint("PUT", "/v1/organizations/{organization_id}/logo", "missing"),
    Endpoint("DELETE", "/v1/organizations/{organization_id}/logo", "missing"),
    Endpoint("GET", "/v1/organizations/{organization_id}/memberships", "partial", _MEMBER_FILTERS),
    Endpoint("POST", "/v1/organizations/{organization_id}/memberships", "supported"),
    Endpoint("PATCH", "/v1/organizations/{organization_id}/memberships/{user_id}", "supported"),
    Endpoint("DELETE", "/v1/organizations/{organization_id}/memberships/{user_id}", "supported"),
    Endpoint("PATCH", "/v1/organizations/{organization_id}/memberships/{user_id}/metadata", "supported"),
    Endpoint("GET", "/v1/organization_memberships", "supported"),
    Endpoint("GET", "/v1/users", "partial", _USER_FILTERS),
    Endpoint("POST", "/v1/users", "missing", "users are made through /sandbox/users"),
    Endpoint("GET", "/v1/users/count", "partial", _USER_FILTERS),
    Endpoint("GET", "/v1/users/{user_id}", "partial", _USER_DATA),
    Endpoint("PATCH", "/v1/users/{user_id}", "partial", "names and external_id only"),
    Endpoint("DELETE", "/v1/users/{user_id}", "supported"),
    Endpoint("GET", "/v1/users/{user_id}/organization_memberships", "supported"),
    Endpoint("GET", "/v1/users/{user_id}/organization_invitations", "missing", _NO_INVITATIONS),
    Endpoint("GET", "/v1/organization_invitations", "missing", _NO_INVITATIONS),
    Endpoint("GET", "/v1/organizations/{organization_id}/invitations", "missing", _NO_INVITATIONS),
    Endpoint("POST", "/v1/organizations/{organization_id}/invitations", "missing", _NO_INVITATIONS),
    Endpoint("POST", "/v1/organizations/{organization_id}/invitations/bulk", "missing", _NO_INVITATIONS),
    Endpoint("GET", "/v1/organizations/{organization_id}/domains", "missing", _NO_DOMAINS),
    Endpoint("POST", "/v1/organizations/{organization_id}/domains", "missing", _NO_DOMAINS),
    Endpoint("GET", "/v1/organization_domains", "missing", _NO_DOMAINS),
    Endpoint("POST", "/v1/api_keys", "missing", "keys are made through /sandbox/api-keys"),
    Endpoint("POST", "/v1/api_keys/verify", "supported"),
    Endpoint("POST", "/v1/api_keys/{apiKeyID}/revoke", "supported"),
    Endpoint("GET", "/v1/api_keys", "missing"),
    Endpoint("GET", "/v1/organization_roles", "missing", _FIXED_ROLES),
    Endpoint("POST", "/v1/organization_roles", "missing", _FIXED_ROLES),
    Endpoint("GET", "/v1/organization_permissions", "missing", _FIXED_ROLES),
    Endpoint("GET", "/v1/role_sets", "missing", _ONE_ROLE_SET),
)
