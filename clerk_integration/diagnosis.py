"""What works between us and Clerk and what does not, one finding after the other.

Everything here reads: the instance, its organization settings and its signing keys, three calls.
No finding shows a secret.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from clerk_integration.checks import is_webhook_signing_secret
from clerk_integration.conf import JOB_TIMEOUT_SECONDS, clerk_settings
from clerk_integration.exceptions import ClerkError, ClerkMisconfigured
from clerk_integration.instance import ClerkInstance, get_clerk_instance, get_clerk_organization_settings
from clerk_integration.tokens.signing_keys import load_jwt_key
from clerk_integration.wire.client import fetch_jwks
from clerk_integration.wire.deadlines import clerk_deadline

MAX_CLOCK_OFFSET_SECONDS = 5.0
"""What the verification of session tokens forgives."""

Status = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `advice` says what to do when `status` is not `ok`."""

    subject: str
    status: Status
    message: str
    advice: str = ""


def diagnose() -> Iterator[Finding]:
    """Ask Clerk and our settings, and yield what is found; failures of Clerk are findings, too.

    Three calls, each within 30 s; without an accepted key the other two are left out. Raises
    ClerkCalledInTransaction.
    """
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            instance = get_clerk_instance()
    except ClerkError as exc:
        yield _failed("key", exc)
    else:
        yield Finding("key", "ok", "Clerk accepts CLERK_SECRET_KEY.")
        yield _about_identity(instance)
        yield _about_clock(instance.clock_offset_seconds)
        yield from _about_organizations()
        yield _about_signing_keys()
    yield _about_issuer()
    yield _about_signing_secrets()


def _about_identity(instance: ClerkInstance) -> Finding:
    message = f"The key belongs to the {instance.environment_type or 'unnamed'} instance {instance.id}."
    if not clerk_settings.instance_id:
        advice = f"Set CLERK_INSTANCE_ID={instance.id}, so that a key of another instance is noticed."
        return Finding("instance", "warn", message, advice)
    if clerk_settings.instance_id != instance.id:
        advice = f"CLERK_INSTANCE_ID is {clerk_settings.instance_id}: correct it, or use that instance's key."
        return Finding("instance", "FAIL", message, advice)
    return Finding("instance", "ok", message)


def _about_clock(offset: float | None) -> Finding:
    if offset is None:
        return Finding("clock", "warn", "Clerk's answer has no time to compare ours with.")
    direction = "behind" if offset > 0 else "ahead of"
    message = f"This machine's clock is {abs(offset):.0f} s {direction} Clerk's."
    if abs(offset) > MAX_CLOCK_OFFSET_SECONDS:
        advice = "Set the clock, best by NTP; session tokens live 60 s and are refused outside of that."
        return Finding("clock", "FAIL", message, advice)
    return Finding("clock", "ok", message)


def _about_organizations() -> Iterator[Finding]:
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            settings = get_clerk_organization_settings()
    except ClerkError as exc:
        yield _failed("organizations", exc)
        return
    yield _stated(
        "organizations",
        settings.enabled,
        yes=Finding("organizations", "ok", f"Organizations are on; creators become {settings.creator_role}."),
        no=Finding(
            "organizations",
            "FAIL",
            "Organizations are switched off in this instance.",
            "Switch them on in Clerk's dashboard under Organizations, Settings.",
        ),
    )
    yield _stated(
        "slugs",
        None if settings.slug_disabled is None else not settings.slug_disabled,
        yes=Finding("slugs", "ok", "Organizations have slugs."),
        no=Finding(
            "slugs",
            "warn",
            "Slugs are switched off in this instance; creating with a slug is refused.",
            "Create tenants without a slug, or switch slugs on in Clerk's dashboard.",
        ),
    )


def _stated(subject: str, answer: bool | None, *, yes: Finding, no: Finding) -> Finding:
    if answer is None:
        return Finding(subject, "warn", "Clerk's answer does not say.", "Look into Clerk's dashboard.")
    return yes if answer else no


def _about_signing_keys() -> Finding:
    try:
        keys = fetch_jwks()
        own_key = load_jwt_key(clerk_settings.jwt_key) if clerk_settings.jwt_key else None
    except ClerkError as exc:
        return _failed("signing keys", exc)
    return _compared(keys, own_key)


def _compared(keys: list[dict[str, Any]], own_key: RSAPublicKey | None) -> Finding:
    moduli = {key.get("n") for key in keys if key.get("kty") == "RSA"}
    if not moduli:
        return Finding(
            "signing keys", "FAIL", "Clerk's JWKS holds no RSA key.", "Check that CLERK_API_URL names Clerk."
        )
    if own_key is None:
        return Finding("signing keys", "ok", f"Clerk's JWKS holds {len(moduli)} RSA key(s).")
    if RSAAlgorithm.to_jwk(own_key, as_dict=True)["n"] not in moduli:
        advice = "Copy the JWKS public key from the dashboard of this instance, or unset CLERK_JWT_KEY."
        return Finding("signing keys", "FAIL", "CLERK_JWT_KEY is none of the instance's keys.", advice)
    return Finding("signing keys", "ok", "CLERK_JWT_KEY is a key of this instance.")


def _about_issuer() -> Finding:
    issuer = clerk_settings.issuer
    if not issuer:
        advice = (
            "Set CLERK_ISSUER to the instance's Frontend API URL, from the API keys page of the dashboard."
        )
        return Finding("issuer", "warn", "The issuer of session tokens is not checked.", advice)
    if not _is_web_address(issuer):
        advice = "It is the instance's Frontend API URL, such as https://clerk.example.com"
        return Finding("issuer", "FAIL", "CLERK_ISSUER is no http or https URL.", advice)
    return Finding("issuer", "ok", f"Session tokens must come from {issuer}.")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _about_signing_secrets() -> Finding:
    secrets = clerk_settings.webhook_signing_secrets
    advice = "Copy the endpoint's signing secret (whsec_...) from the Webhooks page of Clerk's dashboard."
    if not secrets:
        return Finding("webhook secret", "warn", "CLERK_WEBHOOK_SIGNING_SECRET is not set.", advice)
    malformed = sum(not is_webhook_signing_secret(secret) for secret in secrets)
    if malformed:
        message = f"{malformed} of {len(secrets)} webhook signing secret(s) cannot be one of Clerk's."
        return Finding("webhook secret", "FAIL", message, advice)
    return Finding("webhook secret", "ok", f"{len(secrets)} webhook signing secret(s), well-formed.")


def _failed(subject: str, failure: ClerkError) -> Finding:
    advice = (
        "Correct the setting that is named."
        if isinstance(failure, ClerkMisconfigured)
        else "Check the network and CLERK_API_URL, and Clerk's status page, then run this again."
    )
    return Finding(subject, "FAIL", failure.message, advice)
