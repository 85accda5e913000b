"""`manage.py sync_runs`: list the runs, or show one run with its outcomes."""

import json
from argparse import ArgumentParser
from itertools import islice
from typing import Any

from django.core.management.base import CommandError

from clerk_integration.management.arguments import positive
from clerk_integration.management.base import DatabaseCommand
from clerk_integration.management.progress import CommandProgress
from clerk_integration.times import utc_text
from tenants.batches.descriptions import duration_of, short_counts_of, starter_of, summary_of, title_of
from tenants.management.following import follow
from tenants.models import SyncRun
from tenants.runs import outcomes

LIMIT = 20


class Command(DatabaseCommand):
    """List the runs, newest first, or show one; with --follow, exit with code 1 if it does not complete."""

    help = (
        "List the full syncs, dry runs, migrations, imports, link files and batches, newest first; or show "
        "one run with its outcomes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("run", type=positive, nargs="?", metavar="RUN", help="the number of a run")
        parser.add_argument("--follow", action="store_true", help="show the progress until the run ends")
        parser.add_argument("--result", metavar="RESULT", help="only outcomes with this result, e.g. failed")
        parser.add_argument(
            "--limit", type=positive, metavar="N", help=f"number of lines (default: {LIMIT} runs, or all)"
        )
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """List the runs, or show or follow one run."""
        progress = self.start_progress(options)
        if options["run"] is None:
            if options["follow"] or options["result"]:
                raise CommandError("--follow and --result need the number of a run.")
            self._list(progress, options)
        elif options["follow"]:
            follow(options["run"], progress, summarize=summary_of)
        else:
            self._show(progress, options)

    def _list(self, progress: CommandProgress, options: dict[str, Any]) -> None:
        runs = list(SyncRun.objects.all()[: options["limit"] or LIMIT])
        for run in [] if options["json"] else runs:
            progress.note(line_of(run))
        if options["json"]:
            progress.is_finished = True
            self.stdout.write(json.dumps({"runs": [summary_of(run) for run in runs]}))
        elif not runs:
            progress.note("There are no runs yet.")

    def _show(self, progress: CommandProgress, options: dict[str, Any]) -> None:
        run = SyncRun.objects.filter(pk=options["run"]).first()
        if run is None:
            raise CommandError(f"There is no run {options['run']}. Run the command without a number.")
        progress.note(line_of(run))
        for error in run.error.splitlines():
            progress.note(error)
        for outcome in islice(outcomes.iterate(run, result=options["result"]), options["limit"]):
            reason = f": {outcome.reason}" if outcome.reason else ""
            progress.note(f"{outcome.item} {outcome.result or 'not tried'}{reason}")
        if options["json"]:
            progress.finish(summary_of(run))


def line_of(run: SyncRun) -> str:
    """Return the run in one line."""
    parts = [
        utc_text(run.started_at),
        title_of(run),
        run.state,
        short_counts_of(run) or "nothing yet",
        f"{duration_of(run)}",
        f"by {starter_of(run)}",
    ]
    return f"run {run.pk}: " + ", ".join(parts)
