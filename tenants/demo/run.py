"""A complete demo: start everything, walk, serve, and leave nothing running."""

import secrets
import shlex
import time
from collections.abc import Mapping

import httpx
from django.contrib.auth import get_user_model
from django.db import connection

from clerk_integration.instance import adopt_instance
from tenants.demo.database import prepare_tables, require_embedded_postgres, use_demo_database
from tenants.demo.environment import SETTINGS
from tenants.demo.processes import Interrupted, Processes, StepFailed, raise_on_signals
from tenants.demo.report import Report, ok
from tenants.demo.scene import MINE, Scene
from tenants.demo.servers import (
    HOST,
    clerk_description,
    clients_environment,
    manage,
    reserve_port,
    start_clerk,
    start_web,
    start_worker,
    wait_until_ready,
)
from tenants.demo.walk import walk

ADMIN = "admin"
TOKEN_SECONDS = 3600
TIMEOUT_SECONDS = 30.0
WATCH_SECONDS = 0.2


def run_demo(report: Report, port: int, *, serve: bool, reset: bool) -> None:
    """Take the walk on 127.0.0.1:`port`, then serve until a signal arrives if `serve` is true.

    Write to the demo's database only, which `reset` drops first. Raise DemoError if a process does not start
    or has ended, or a step fails; raise Interrupted for a signal before the end of the walk. All started
    processes have ended then, except for the embedded PostgreSQL, which stops when its last user has exited.
    """
    require_embedded_postgres()
    with reserve_port(port) as listener, Processes() as processes:
        raise_on_signals()
        report.line("Starting PostgreSQL, a local Clerk, the web server and a worker ...")
        started = time.monotonic()
        start_clerk(processes)  # while PostgreSQL starts
        database = f"{connection.settings_dict['NAME']}_demo_{port}"
        database_url = use_demo_database(database, reset=reset)
        prepare_tables()
        clerk = clerk_description(processes)
        # The organizations of an earlier demo's Clerk are gone, but their tenants are kept.
        adopt_instance(clerk["instanceId"])
        environment = clients_environment(clerk, database_url)
        start_web(processes, listener, environment)
        start_worker(processes, environment)
        url = f"http://{HOST}:{port}"
        wait_until_ready(processes, _client(url))
        report.heading(f"Started in {time.monotonic() - started:.1f} s")
        _describe(report, url, clerk, database)
        scene = _scene(report, url, clerk, environment, processes)
        _take_the_walk(scene, processes)
        if serve:
            _print_addresses(scene)
            _serve(processes)


def _describe(report: Report, url: str, clerk: Mapping[str, str], database: str) -> None:
    report.fact("web", url)
    report.fact("local Clerk", f"{clerk['issuer']}/sandbox (it forgets its records when the demo ends)")
    report.fact("database", f"{database}, on the embedded PostgreSQL (kept until you use --reset)")
    seconds = SETTINGS["CLERK_TIMEOUT_SECONDS"]
    report.fact("deadline", f"Clerk has {seconds} s to answer (CLERK_TIMEOUT_SECONDS)")
    report.fact("lists", "ask Clerk each time; normally once in 60 s (CLERK_SYNC_MAX_AGE_SECONDS)")


def _scene(
    report: Report, url: str, clerk: Mapping[str, str], environment: Mapping[str, str], processes: Processes
) -> Scene:
    sandbox_url = f"{clerk['issuer']}/sandbox"
    backend = _client(clerk["apiUrl"], clerk["secretKey"])
    user_id, colleague_id = (user["id"] for user in ok(backend.get("/users")).json())
    return Scene(
        report=report,
        url=url,
        sandbox_url=sandbox_url,
        api=_client(url, _session_token(sandbox_url, user_id)),
        clerk=backend,
        frozen_clerk=lambda: processes.frozen("clerk"),
        manage=lambda command, *options: processes.run(command, manage(command, *options), environment),
        user_id=user_id,
        colleague_id=colleague_id,
    )


def _client(base_url: str, token: str = "") -> httpx.Client:
    # No proxy: the servers are on this machine, and the token is for them only.
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=base_url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)


def _session_token(sandbox_url: str, user_id: str) -> str:
    """Return a session token that is valid for TOKEN_SECONDS; Clerk's own tokens are valid for one minute."""
    body = {"userId": user_id, "expiresIn": TOKEN_SECONDS}
    return str(ok(_client(sandbox_url).post("/session-tokens", json=body)).json()["jwt"])


def _take_the_walk(scene: Scene, processes: Processes) -> None:
    try:
        walk(scene)
    except StepFailed as failure:
        # If a process has ended, its log explains the failure better than the step does.
        processes.require_running()
        raise StepFailed(f"{failure}{processes.log_tails()}") from failure


def _print_addresses(scene: Scene) -> None:
    """Print the addresses and credentials. Every start gives the admin a new password."""
    report, url = scene.report, scene.url
    token = _session_token(scene.sandbox_url, scene.user_id)
    report.heading("Yours to try")
    report.fact("start page", f"{url}/")
    report.fact("API", f"{url}/api/v1/docs")
    report.fact("admin", f"{url}/admin/ (user {ADMIN}, password {_renew_admin()})")
    report.fact("local Clerk", scene.sandbox_url)
    report.fact("user", f"{scene.user_id}, whose tenants this command lists:")
    report.line(f"\n{shlex.join(['curl', '-H', f'Authorization: Bearer {token}', f'{url}{MINE}'])}")
    report.line("\nThe text after Bearer is a session token, valid for an hour. This returns another,")
    report.line("also valid for an hour; put the id of another user there to act as that user:\n")
    body = f'{{"userId": "{scene.user_id}", "expiresIn": {TOKEN_SECONDS}}}'
    report.line(shlex.join(["curl", "-X", "POST", f"{scene.sandbox_url}/session-tokens", "-d", body]))
    report.line("\nTo make a tenant of your own, step by step: docs/tutorial/first-tenant.md")
    report.line("\nCtrl-C stops everything.")


def _renew_admin() -> str:
    """Create the demo's superuser, or give it a new password; return the password."""
    password = secrets.token_urlsafe(9)
    users = get_user_model()._default_manager
    admin, _ = users.update_or_create(
        username=ADMIN, defaults={"is_staff": True, "is_superuser": True, "is_active": True}
    )
    admin.set_password(password)
    admin.save()
    return password


def _serve(processes: Processes) -> None:
    """Wait until a signal arrives; raise DemoError if a process ends."""
    try:
        while True:
            processes.require_running()
            time.sleep(WATCH_SECONDS)
    except Interrupted:
        return
