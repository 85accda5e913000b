"""A whole demo: start everything, walk, serve, leave nothing running."""

import secrets
import shlex
import time
from collections.abc import Callable
from functools import partial

from django.contrib.auth import get_user_model
from django.db import connection

from tenants.demo.database import prepare_tables, require_embedded_postgres, use_demo_database
from tenants.demo.environment import SETTINGS
from tenants.demo.exceptions import StepFailed
from tenants.demo.http import HttpClient
from tenants.demo.interrupts import Interrupted, Interrupts
from tenants.demo.processes import Children
from tenants.demo.report import Report
from tenants.demo.scene import MINE, Scene
from tenants.demo.servers import (
    HOST,
    LocalClerk,
    clients_environment,
    reserve,
    run_command,
    start_clerk,
    start_web,
    start_worker,
    wait_until_ready,
)
from tenants.demo.walk import walk

ADMIN = "admin"
TOKEN_SECONDS = 3600
WATCH_SECONDS = 0.2


def run_demo(port: int, *, serve: bool, reset: bool) -> None:
    """Take the walk on 127.0.0.1:`port`, then serve until a signal if `serve`.

    Writes to the demo's database only, which `reset` drops first. Raises DemoError when something
    does not come up, a process dies or a step fails, and Interrupted for a signal before the end of
    the walk. Nothing that it started is left running, except for the embedded PostgreSQL, which
    stops when this process, its last user, exits.
    """
    report, interrupts = Report(), Interrupts()
    require_embedded_postgres()
    with reserve(port) as listener, Children(interrupts) as children:
        report.line("Starting PostgreSQL, a local Clerk, the web server and a worker ...")
        started = time.monotonic()
        # It starts while PostgreSQL does.
        clerk_process = start_clerk(children)
        with interrupts.held():
            # PostgreSQL's own start must not be cut in half.
            name = f"{connection.settings_dict['NAME']}_demo_{port}"
            database_url = use_demo_database(name, reset=reset)
        prepare_tables()
        clerk = LocalClerk.described_by(clerk_process)
        environment = clients_environment(clerk, database_url)
        start_web(children, listener, environment)
        start_worker(children, environment)
        url = f"http://{HOST}:{port}"
        wait_until_ready(children, HttpClient(url))
        report.heading(f"Started in {time.monotonic() - started:.1f} s")
        _describe(report, url, clerk, name)
        scene = _scene(report, url, clerk, partial(run_command, children, environment))
        _take_the_walk(scene, children)
        if serve:
            _invite(scene)
            _serve(children)


def _describe(report: Report, url: str, clerk: LocalClerk, database: str) -> None:
    report.fact("web", url)
    report.fact("local Clerk", f"{clerk.api_url} (its records live in memory, until the demo ends)")
    report.fact("database", f"{database}, on the embedded PostgreSQL")
    report.fact("deadline", f"{SETTINGS['CLERK_TIMEOUT_SECONDS']} s for Clerk (CLERK_TIMEOUT_SECONDS)")
    report.fact("freshness", "0 s, so that every list asks Clerk (CLERK_SYNC_MAX_AGE_SECONDS, normally 60)")


def _scene(report: Report, url: str, clerk: LocalClerk, manage: Callable[..., str]) -> Scene:
    backend = HttpClient(clerk.api_url, clerk.secret_key)
    control = HttpClient(clerk.control_url)
    user_id, colleague_id = (user["id"] for user in backend.call("GET", "/users").require_ok().body)
    return Scene(
        report=report,
        url=url,
        api=HttpClient(url, _session_token(control, user_id)),
        clerk=backend,
        control=control,
        sandbox=clerk,
        manage=manage,
        user_id=user_id,
        colleague_id=colleague_id,
    )


def _session_token(control: HttpClient, user_id: str) -> str:
    """Have the local Clerk sign the user in, for longer than the minute of Clerk's own tokens."""
    answer = control.call("POST", "/session-tokens", {"userId": user_id, "expiresIn": TOKEN_SECONDS})
    return str(answer.require_ok().body["jwt"])


def _take_the_walk(scene: Scene, children: Children) -> None:
    try:
        walk(scene)
    except StepFailed as failure:
        # A process that is gone explains more than the step that has missed it.
        children.require_alive()
        raise StepFailed(f"{failure}{children.last_words()}") from failure


def _invite(scene: Scene) -> None:
    """Print what to open and to type; the password of the admin is new with every start."""
    report, url = scene.report, scene.url
    token = _session_token(scene.control, scene.user_id)
    report.heading("Yours to try")
    report.fact("API", f"{url}/api/v1/docs")
    report.fact("admin", f"{url}/admin/ (user {ADMIN}, password {_renew_admin()})")
    report.fact("local Clerk", scene.sandbox.control_url)
    report.fact("user", f"{scene.user_id}, signed in for one hour with the session token")
    report.line(f"\n{token}")
    report.line(f"\n{shlex.join(['curl', '-H', f'Authorization: Bearer {token}', f'{url}{MINE}'])}")
    report.line("\nCtrl-C stops everything.")


def _renew_admin() -> str:
    """Make the demo's superuser, or give it a new password; return the password."""
    password = secrets.token_urlsafe(9)
    users = get_user_model()._default_manager
    admin, _ = users.update_or_create(
        username=ADMIN, defaults={"is_staff": True, "is_superuser": True, "is_active": True}
    )
    admin.set_password(password)
    admin.save()
    return password


def _serve(children: Children) -> None:
    """Return when a signal asks to stop; raise DemoError when a process is gone."""
    try:
        while True:
            children.require_alive()
            time.sleep(WATCH_SECONDS)
    except Interrupted:
        return
