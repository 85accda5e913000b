"""Read request bodies."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from tenants.api.errors import MAX_BODY_BYTES, BodyTooLarge


class LimitedJSONParser(JSONParser):
    """Parses JSON of at most MAX_BODY_BYTES."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the parsed JSON; raise BodyTooLarge (before reading the body) or ParseError."""
        request = (parser_context or {}).get("request")
        if request is not None and int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            # Python's decoder raises RecursionError for thousands of nested lists.
            raise ParseError("JSON parse error - nested too deeply") from None
