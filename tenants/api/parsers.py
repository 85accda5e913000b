"""Reading request bodies."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.parsers import JSONParser

MAX_BODY_BYTES = 64 * 1024
"""More than any body that these endpoints understand; DRF itself reads whatever is sent."""


class BodyTooLarge(APIException):
    """413: the body is larger than anything that makes sense here."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was read."
    default_code = "body_too_large"


class LimitedJSONParser(JSONParser):
    """Parses JSON of at most MAX_BODY_BYTES."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Raise BodyTooLarge instead of reading a larger body."""
        request = (parser_context or {}).get("request")
        if request is not None and int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            raise BodyTooLarge
        return super().parse(stream, media_type, parser_context)
