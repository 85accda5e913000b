"""Sets the environment of a test run before Django reads its settings (`-p tests.environment`).

Of the developer's environment, only DATABASE_URL applies. A test must never use the key of a real Clerk
instance, whether it is in the environment or in `.env`.
"""

import os
import signal
import sys

# A shell makes background processes ignore SIGINT, and the commands that tests start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `nohup` does the same with SIGHUP. Started commands do not inherit a handler.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)

# Without compiled modules, each process that a test starts would compile Django again for three seconds.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No setting of `.env` applies.
os.environ["ENV_FILE"] = os.devnull
os.environ["DEBUG"] = "true"
os.environ["SECRET_KEY"] = "tests-only"
os.environ["ALLOWED_HOSTS"] = "testserver,localhost,127.0.0.1"
os.environ["CACHE_URL"] = "locmemcache://"
os.environ["LOG_LEVEL"] = "WARNING"
os.environ["LOG_FORMAT"] = "console"
for name in ("CSRF_TRUSTED_ORIGINS", "CORS_ALLOWED_ORIGINS"):
    os.environ[name] = ""
for name in (
    "SECRET_KEY",
    "JWT_KEY",
    "ISSUER",
    "AUTHORIZED_PARTIES",
    "AUDIENCE",
    "INSTANCE_ID",
    "WEBHOOK_SIGNING_SECRET",
):
    os.environ[f"CLERK_{name}"] = ""
os.environ["CLERK_API_URL"] = "http://127.0.0.1:9/v1"
os.environ["CLERK_TIMEOUT_SECONDS"] = "5"
os.environ["CLERK_CLOCK_SKEW_SECONDS"] = "5"
os.environ["CLERK_PENDING_SESSIONS"] = "refuse"
os.environ["CLERK_RATE_LIMIT"] = "10000"
os.environ["CLERK_MAX_WAITING"] = "100"
os.environ["CLERK_SYNC_MAX_AGE_SECONDS"] = "60"
for name in ("LIST", "CREATE", "SYNC"):
    os.environ[f"TENANT_{name}_LIMIT"] = "100000/minute"
