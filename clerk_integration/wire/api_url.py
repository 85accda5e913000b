"""Which URLs CLERK_API_URL may name: every request sends the secret key to this URL."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

FORBIDDEN_IN_HOST = re.compile(r"[\s<>]")
"""Characters of a placeholder, such as https://<your host>."""


def api_url_error(url: str) -> str | None:
    """Return why the secret key must not be sent to `url`, or None. The text follows the setting's name."""
    parts = _split(url)
    if parts is None or not is_http_url(url):
        return "is not an http or https URL"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "would send the secret key unencrypted: it is http, and not on this machine"
    if parts.username is not None or parts.query or parts.fragment:
        return "holds more than scheme, host and path"
    if parts.path.rpartition("/")[2] != "v1":
        return "does not end with /v1"
    return None


def is_loopback_url(url: str) -> bool:
    """Return whether `url` names a loopback address, as the URL of a local sandbox does."""
    parts = _split(url)
    return parts is not None and _is_loopback(parts.hostname)


def is_http_url(url: str) -> bool:
    """Return whether `url` names a host, by http or https."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https"):
        return False
    return parts.hostname is not None and FORBIDDEN_IN_HOST.search(parts.hostname) is None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises ValueError unless it is a number in range.
    except ValueError:
        return None
    return parts


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
