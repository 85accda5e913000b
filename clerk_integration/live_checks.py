"""Checks that call Clerk: whether Clerk accepts the settings, and whether the instance fits this service.

The checks only read. Three calls fetch the instance, its organization settings and its signing keys. The
recorded refusals of webhooks are read from the database. No finding contains a secret.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.utils import timezone
from jwt.algorithms import RSAAlgorithm

from clerk_integration.conf import JOB_TIMEOUT_SECONDS, clerk_settings, is_signing_secret
from clerk_integration.exceptions import ClerkError, ClerkMisconfigured
from clerk_integration.instance import (
    ClerkInstance,
    get_clerk_instance,
    get_clerk_organization_settings,
    stored_instance_id,
)
from clerk_integration.models import WebhookRefusal
from clerk_integration.times import utc_text
from clerk_integration.tokens.signing_keys import load_jwt_key
from clerk_integration.wire.api_url import is_http_url
from clerk_integration.wire.client import fetch_jwks
from clerk_integration.wire.deadlines import clerk_deadline

CLOCK_RESOLUTION_SECONDS = 1
"""The `Date` header, with which our clock is compared, has no fractions of a second."""

REFUSALS_SHOWN_FOR = timedelta(hours=24)

SEE_LOG = "The log of the web server has a line for each of them."
REFUSAL_ADVICE = {
    "invalid_signature": "If they come from Clerk, copy the signing secret of that endpoint from Clerk's "
    "dashboard to CLERK_WEBHOOK_SIGNING_SECRET, and let no proxy change the body or the svix headers.",
    "foreign_instance": "Point the endpoint of the other instance elsewhere in Clerk's dashboard; if that "
    "instance is the right one, set CLERK_INSTANCE_ID to it.",
    "webhooks_not_configured": "Set CLERK_WEBHOOK_SIGNING_SECRET; Clerk sends these webhooks again.",
}

UNKNOWN = ("Clerk's answer does not say.", "Check it in Clerk's dashboard.")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `advice` says what to do when `status` is not `ok`."""

    subject: str
    status: Literal["ok", "warn", "FAIL"]
    message: str
    advice: str = ""


def run_live_checks() -> Iterator[Finding]:
    """Check the settings, call Clerk, and yield the findings. A ClerkError becomes a finding, too.

    Sends three calls of at most 30 s each. The second and third are sent only if Clerk has accepted the key.
    Raises ClerkCalledInTransaction.
    """
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            instance = get_clerk_instance()
    except ClerkError as error:
        yield _failed("key", error)
    else:
        yield Finding("key", "ok", "Clerk accepts CLERK_SECRET_KEY.")
        yield _check_instance(instance)
        yield _check_clock(instance.clock_offset_seconds)
        yield from _check_organization_settings()
        yield _check_signing_keys()
    yield _check_issuer()
    yield _check_signing_secrets()
    yield from _check_refused_webhooks()


def _check_instance(instance: ClerkInstance) -> Finding:
    message = f"The key belongs to the {instance.environment_type or 'unnamed'} instance {instance.id}."
    stored = _stored_instance()
    if stored and instance.id != stored:
        advice = (
            f"This database belongs to {stored}: use that instance's key, or change to the other instance"
            " with `manage.py check_clerk --adopt-instance`."
        )
        return Finding("instance", "FAIL", message, advice)
    if not clerk_settings.instance_id:
        advice = f"Set CLERK_INSTANCE_ID={instance.id}, so that a key of another instance is noticed."
        return Finding("instance", "warn", message, advice)
    if clerk_settings.instance_id != instance.id:
        advice = f"CLERK_INSTANCE_ID is {clerk_settings.instance_id}: correct it, or use that instance's key."
        return Finding("instance", "FAIL", message, advice)
    return Finding("instance", "ok", message)


def _stored_instance() -> str | None:
    try:
        return stored_instance_id()
    except (Error, ImproperlyConfigured):  # This command works without a database.
        return None


def _check_clock(offset: float | None) -> Finding:
    if offset is None:
        return Finding("clock", "warn", "Clerk's answer has no time to compare ours with.")
    direction = "behind" if offset > 0 else "ahead of"
    message = f"This machine's clock is {abs(offset):.0f} s {direction} Clerk's."
    if abs(offset) <= CLOCK_RESOLUTION_SECONDS:
        message = "This machine's clock and Clerk's differ by one second at most."
    if abs(offset) <= clerk_settings.session_tokens.clock_skew_seconds:
        return Finding("clock", "ok", message)
    advice = "Set the clock, best by NTP: session tokens are valid for 60 s only."
    return Finding("clock", "FAIL", message, advice)


def _check_organization_settings() -> Iterator[Finding]:
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            settings = get_clerk_organization_settings()
    except ClerkError as error:
        yield _failed("organizations", error)
        return
    creator = f"Organizations are on; creators become {settings.creator_role}."
    yield {
        True: Finding("organizations", "ok", creator),
        False: Finding(
            "organizations",
            "FAIL",
            "Organizations are switched off in this instance.",
            "Switch them on in Clerk's dashboard under Organizations, Settings.",
        ),
        None: Finding("organizations", "warn", *UNKNOWN),
    }[settings.enabled]
    yield {
        False: Finding("slugs", "ok", "Organizations have slugs."),
        True: Finding(
            "slugs",
            "warn",
            "Slugs are switched off in this instance; creating with a slug is refused.",
            "Create tenants without a slug, or switch slugs on in Clerk's dashboard.",
        ),
        None: Finding("slugs", "warn", *UNKNOWN),
    }[settings.slug_disabled]


def _check_signing_keys() -> Finding:
    try:
        keys = fetch_jwks()
        own_key = load_jwt_key(clerk_settings.jwt_key) if clerk_settings.jwt_key else None
    except ClerkError as error:
        return _failed("signing keys", error)
    moduli = {key.get("n") for key in keys if key.get("kty") == "RSA"}
    if not moduli:
        advice = "Check that CLERK_API_URL names Clerk."
        return Finding("signing keys", "FAIL", "Clerk's JWKS holds no RSA key.", advice)
    if own_key is None:
        return Finding("signing keys", "ok", f"RSA keys in Clerk's JWKS: {len(moduli)}.")
    if RSAAlgorithm.to_jwk(own_key, as_dict=True)["n"] not in moduli:
        advice = "Copy the JWKS public key from the dashboard of this instance, or unset CLERK_JWT_KEY."
        return Finding("signing keys", "FAIL", "CLERK_JWT_KEY is not a key of this instance.", advice)
    return Finding("signing keys", "ok", "CLERK_JWT_KEY is a key of this instance.")


def _check_issuer() -> Finding:
    issuer = clerk_settings.session_tokens.issuer
    if not issuer:
        advice = (
            "Set CLERK_ISSUER to the instance's Frontend API URL, from the API keys page of the dashboard."
        )
        return Finding("issuer", "warn", "The issuer of session tokens is not checked.", advice)
    if not is_http_url(issuer):
        advice = "It is the instance's Frontend API URL, such as https://clerk.example.com"
        return Finding("issuer", "FAIL", "CLERK_ISSUER is not an http or https URL.", advice)
    return Finding("issuer", "ok", f"Session tokens must come from {issuer}.")


def _check_signing_secrets() -> Finding:
    secrets = clerk_settings.webhook_signing_secrets
    advice = "Copy the endpoint's signing secret (whsec_...) from the Webhooks page of Clerk's dashboard."
    if not secrets:
        return Finding("webhook secret", "warn", "CLERK_WEBHOOK_SIGNING_SECRET is not set.", advice)
    malformed = sum(not is_signing_secret(secret) for secret in secrets)
    if malformed:
        message = f"Malformed values in CLERK_WEBHOOK_SIGNING_SECRET: {malformed} of {len(secrets)}."
        return Finding("webhook secret", "FAIL", message, advice)
    return Finding("webhook secret", "ok", f"Well-formed webhook signing secrets: {len(secrets)}.")


def _check_refused_webhooks() -> Iterator[Finding]:
    since = timezone.now() - REFUSALS_SHOWN_FOR
    try:
        refusals = list(WebhookRefusal.objects.filter(last_at__gte=since).order_by("-last_at"))
    except (Error, ImproperlyConfigured):
        advice = "Start the database and run `manage.py migrate`, then run this command again."
        yield Finding("webhooks", "warn", "The database cannot say whether webhooks were refused.", advice)
        return
    if not refusals:
        yield Finding("webhooks", "ok", "No webhook was refused in the last 24 hours.")
    for refusal in refusals:
        message = (
            f"Webhooks are refused: {refusal.code}, {refusal.count:,} in all, last at "
            f"{utc_text(refusal.last_at)} because {refusal.reason}."
        )
        yield Finding("webhooks", "warn", message, REFUSAL_ADVICE.get(refusal.code, SEE_LOG))


def _failed(subject: str, error: ClerkError) -> Finding:
    advice = (
        "Correct the setting that is named."
        if isinstance(error, ClerkMisconfigured)
        else "Check the network, CLERK_API_URL and Clerk's status page, then run this command again."
    )
    return Finding(subject, "FAIL", error.message, advice)
