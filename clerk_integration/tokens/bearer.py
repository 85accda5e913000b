"""Bearer tokens: session tokens, and API keys where CLERK_ACCEPT_API_KEYS admits them."""

from clerk_integration.conf import clerk_settings
from clerk_integration.tokens.api_keys import PREFIX, authenticate_api_key
from clerk_integration.tokens.authentication import authenticate_session_token
from clerk_integration.tokens.clerk_user import ClerkUser


def authenticate_bearer(token: str, *, admit_pending: bool = False) -> ClerkUser:
    """Return the user of the token; raise as `authenticate_session_token` or `authenticate_api_key`."""
    if clerk_settings.accept_api_keys and token.startswith(PREFIX):
        return authenticate_api_key(token)
    return authenticate_session_token(token, admit_pending=admit_pending)
