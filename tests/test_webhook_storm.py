"""A storm of webhooks on real processes: none is lost, none takes the mirror back in time."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.conf import settings
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.wake_ups import DRAIN
from tenants.demo.servers import reserve_port
from tenants.models import Membership, Tenant
from tests.sandbox import SandboxControl
from tests.workers import DEADLINE, Worker, database_url, workers_on

Json = dict[str, Any]
Status = WebhookDelivery.Status

DELIVERIES = 5_000
DUPLICATED = 0.2
STORM_DEADLINE = 8 * 60.0
SEED = 20

BACKWARDS = """
CREATE TABLE steps_back (what text);
CREATE FUNCTION note_step_back() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO steps_back VALUES (OLD::text || ' -> ' || NEW::text); RETURN NULL; END$$;
CREATE TRIGGER back AFTER UPDATE ON tenants FOR EACH ROW
    WHEN (NEW.clerk_updated_at < OLD.clerk_updated_at
          OR OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION note_step_back();
CREATE TRIGGER back AFTER UPDATE ON memberships FOR EACH ROW
    WHEN (NEW.clerk_created_at < OLD.clerk_created_at
          OR NEW.clerk_membership_id = OLD.clerk_membership_id
             AND (NEW.clerk_updated_at < OLD.clerk_updated_at OR NEW.is_active AND NOT OLD.is_active))
    EXECUTE FUNCTION note_step_back();
"""
FORGET = """
DROP TRIGGER back ON tenants;
DROP TRIGGER back ON memberships;
DROP FUNCTION note_step_back;
DROP TABLE steps_back;
"""


@dataclass
class Population:
    """Organizations and users of the local Clerk, to which one thing after the other happens."""

    sandbox: SandboxControl
    chance: random.Random
    users: list[str] = field(default_factory=list)
    slugs: dict[str, str] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.users = [self.sandbox.user()["id"] for _ in range(60)]
        for _ in range(20):
            self.create()

    def change(self) -> None:
        """Let something happen; what Clerk's rules refuse at this point does not."""
        happenings = [self.create, self.rename, self.swap_slugs, self.join, self.promote, self.leave]
        rare = [self.delete, self.delete_user]
        happening = self.chance.choices(happenings + rare, [2, 6, 3, 10, 5, 6, 1, 0.05])[0]
        with suppress(AssertionError):
            happening()

    def create(self) -> None:
        slug = f"slug-{self.chance.getrandbits(60)}"
        organization = self.sandbox.organization("New", self.chance.choice(self.users), slug)["id"]
        self.members[organization], self.slugs[organization] = [], slug

    def rename(self) -> None:
        self._call("PATCH", self._any(), {"name": f"Name {self.chance.getrandbits(30)}"})

    def swap_slugs(self) -> None:
        one, other = self.chance.sample(list(self.members), 2)
        self._call("PATCH", one, {"slug": f"between-{self.chance.getrandbits(60)}"})
        self._call("PATCH", other, {"slug": self.slugs[one]})
        self._call("PATCH", one, {"slug": self.slugs[other]})
        self.slugs[one], self.slugs[other] = self.slugs[other], self.slugs[one]

    def join(self) -> None:
        organization, user = self._any(), self.chance.choice(self.users)
        self.sandbox.membership(organization, user)
        self.members[organization].append(user)

    def promote(self) -> None:
        organization = self._any()
        role = self.chance.choice(["org:admin", "org:member"])
        self._call("PATCH", f"{organization}/memberships/{self._any_member(organization)}", {"role": role})

    def leave(self) -> None:
        organization = self._any()
        user = self._any_member(organization)
        self._call("DELETE", f"{organization}/memberships/{user}")
        self.members[organization].remove(user)

    def delete(self) -> None:
        organization = self._any()
        self._call("DELETE", organization)
        del self.members[organization]

    def delete_user(self) -> None:
        user = self.users.pop(self.chance.randrange(len(self.users)))
        self.sandbox.delete_user(user)
        self.members = {
            organization: [member for member in members if member != user]
            for organization, members in self.members.items()
        }

    def _any(self) -> str:
        return self.chance.choice(list(self.members))

    def _any_member(self, organization: str) -> str:
        return self.chance.choice(self.members[organization] or self.users)

    def _call(self, method: str, path: str, body: Json | None = None) -> None:
        self.sandbox.api(method, f"/organizations/{path}", body)


def messages_about(sandbox: SandboxControl, chance: random.Random) -> list[Json]:
    """Let things happen in the local Clerk until it has enough to tell; return all its messages."""
    sandbox.webhooks(paused=True)
    population = Population(sandbox, chance)
    while sandbox.webhooks()["counts"]["pending"] < DELIVERIES:
        for _ in range(50):
            population.change()
    return sandbox.messages()


@contextmanager
def web(sandbox: SandboxControl, log: Path, *, url: str | None = None) -> Iterator[str]:
    """Serve the project with gunicorn on the test database, or that at `url`; give its receiver's address."""
    description = sandbox.description
    environment = {
        **os.environ,
        "DATABASE_URL": url or database_url(),
        "CLERK_INSTANCE_ID": description["instanceId"],
        "CLERK_WEBHOOK_SIGNING_SECRET": description["webhookSigningSecret"],
    }
    listener = reserve_port(0)
    port = listener.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"]
    command += ["--workers", "1", "--bind", f"fd://{listener.fileno()}"]
    with log.open("w") as output, listener:
        process = subprocess.Popen(
            [*command, "--threads", "4", "--no-control-socket", "--log-level", "warning"],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
        )
    try:
        yield f"http://127.0.0.1:{port}/api/v1/webhooks/clerk"
    finally:
        process.terminate()
        process.wait(DEADLINE)


def post_all(sandbox: SandboxControl, messages: list[Json], url: str) -> Counter[int]:
    """Post the messages, eight at a time, and count the answers."""
    with httpx.Client(timeout=DEADLINE, trust_env=False) as http, ThreadPoolExecutor(8) as pool:

        def post(message: Json) -> int:
            answer = http.post(url, content=sandbox.content(message), headers=sandbox.sign(message))
            return answer.status_code

        return Counter(pool.map(post, messages))


def kill_at_work(worker: Worker) -> None:
    """Kill a worker that is in the middle of a delivery."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        worker.freeze()
        if has_claims(worker):
            worker.kill()
            return
        worker.thaw()
        time.sleep(0.01)
    raise AssertionError("the worker had nothing to do")


def has_claims(frozen: Worker) -> bool:
    """Return whether a frozen worker has claims; those of others end while this function waits."""
    drains = ProcrastinateJob.objects.filter(task_name=DRAIN, status="doing", worker_id=frozen.worker_id)
    if not drains.exists():
        return False
    before = claims()
    time.sleep(0.3)
    return bool(before & claims())


def claims() -> set[UUID | None]:
    return set(WebhookDelivery.objects.filter(claim__isnull=False).values_list("claim", flat=True))


def wait_for_processed(count: int) -> None:
    """Wait until so many deliveries are processed."""
    deadline = time.monotonic() + STORM_DEADLINE
    while processed() < count:
        assert time.monotonic() < deadline, f"{processed()} of {count}"
        time.sleep(0.1)


def processed() -> int:
    return WebhookDelivery.objects.filter(status__in=[Status.PROCESSED, Status.IGNORED]).count()


def mirror() -> tuple[list[Any], list[Any]]:
    """The living organizations and active memberships here."""
    tenants = Tenant.objects.filter(deleted_at=None)
    members = Membership.objects.filter(is_active=True)
    return (
        sorted(tenants.values_list("clerk_org_id", "name", "slug", "clerk_updated_at")),
        sorted(
            members.values_list(
                "clerk_membership_id", "tenant__clerk_org_id", "clerk_user_id", "role", "clerk_updated_at"
            )
        ),
    )


def source_of_truth(sandbox: SandboxControl) -> tuple[list[Any], list[Any]]:
    """The same, as the local Clerk lists it."""
    return (
        sorted((o["id"], o["name"], o["slug"], o["updated_at"]) for o in all_of(sandbox, "/organizations")),
        sorted(
            (m["id"], m["organization"]["id"], m["public_user_data"]["user_id"], m["role"], m["updated_at"])
            for m in all_of(sandbox, "/organization_memberships")
        ),
    )


def all_of(sandbox: SandboxControl, path: str) -> list[Json]:
    found: list[Json] = []
    while page := sandbox.api("GET", path, limit=500, offset=len(found))["data"]:
        found += page
    return found


@contextmanager
def steps_back() -> Iterator[list[str]]:
    """Collect every write of the block that made a row older than it was, or a dead one alive."""
    collected: list[str] = []
    with connection.cursor() as cursor:
        cursor.execute(BACKWARDS)
        try:
            yield collected
            cursor.execute("SELECT what FROM steps_back")
            collected += [what for (what,) in cursor.fetchall()]
        finally:
            cursor.execute(FORGET)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_storm_with_workers_killed_on_the_way_ends_in_the_state_of_clerk(
    sandbox: SandboxControl, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    messages = messages_about(sandbox, chance)
    posts = messages + chance.sample(messages, int(len(messages) * DUPLICATED))
    chance.shuffle(posts)

    with workers_on(tmp_path, "config.settings") as workers, steps_back() as backwards:
        four = [workers.start() for _ in range(4)]
        with web(sandbox, tmp_path / "web.log") as url, ThreadPoolExecutor(1) as sender:
            began = time.monotonic()
            answers = sender.submit(post_all, sandbox, posts, url)
            for victim, after in zip(four, (1_000, 2_500), strict=False):
                wait_for_processed(after)
                kill_at_work(victim)
            assert answers.result() == {204: len(posts)}
            posted = time.monotonic() - began
        wait_for_processed(len(messages))
        took = time.monotonic() - began
        crashed = WebhookDelivery.objects.filter(crashes__gt=0).count()
        retried = WebhookDelivery.objects.filter(attempts__gt=1, crashes=0).count()

    assert WebhookDelivery.objects.count() == len(messages)
    assert crashed > 0
    assert backwards == []
    assert mirror() == source_of_truth(sandbox)
    print(
        f"{len(messages)} deliveries in {len(posts)} posts: "
        f"posted in {posted:.1f} s, processed in {took:.1f} s, "
        f"{crashed} rescued from killed workers, {retried} tried again for other reasons"
    )
