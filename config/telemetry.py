"""Optional reports: errors to Sentry (SENTRY_DSN), traces by OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT).

Both packages are optional. A system check names the missing one; the server runs without it.
"""

from typing import Any

from django.core.exceptions import ImproperlyConfigured


def start_sentry(dsn: str) -> None:
    """Report errors to Sentry if `dsn` is set, without local variables, bodies, query strings and secrets."""
    if not dsn:
        return
    try:
        import sentry_sdk  # noqa: PLC0415  (optional, and slow to import)
    except ImportError:
        return
    try:
        sentry_sdk.init(
            dsn=dsn,
            before_send=_without_secrets,
            send_default_pii=False,
            include_local_variables=False,
            max_request_body_size="never",
        )
    except ValueError:
        # `from None`: the error quotes the DSN.
        raise ImproperlyConfigured("SENTRY_DSN is not the DSN of a project in Sentry.") from None


def _without_secrets(event: Any, hint: object) -> Any:
    # The settings that are secret may not be read while Django still reads the settings.
    from config.redaction import without_secrets  # noqa: PLC0415

    event.get("request", {}).pop("query_string", None)
    return without_secrets(event)


def start_tracing(endpoint: str) -> None:
    """Send traces as the standard variables of OpenTelemetry say, if `endpoint` is set.

    Call it in each process of the web server, after the fork and before the application is made.
    """
    if not endpoint:
        return
    try:
        from opentelemetry.instrumentation import auto_instrumentation  # noqa: PLC0415  (optional)
    except ImportError:
        return
    auto_instrumentation.initialize()
