"""The `Idempotency-Key` request header."""

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

HEADER = "Idempotency-Key"
MAX_LENGTH = 255


def idempotency_key(request: Request) -> str | None:
    """Return the request's key, None without one; raise ValidationError when it is unusable."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 0 < len(key) <= MAX_LENGTH or not key.isascii() or not key.isprintable():
        raise ValidationError(
            {HEADER: [f"Send 1 to {MAX_LENGTH} printable ASCII characters, or leave the header out."]}
        )
    return key
