"""Parts of the documentation that come from the code and its docstrings."""

import ast
import inspect
import json
import re
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.core.management import get_commands, load_command_class

import tenants.signals
from clerk_integration.sandbox import control, parameters
from clerk_integration.sandbox.routes import api_keys
from docs.tables import table
from tenants.admin.actions.questions import QUESTIONS
from tenants.batches.steps import STEPS
from tenants.models import Tenant

PROJECT = Path(__file__).resolve().parent.parent

DOCUMENTED_BY_DJANGO = {
    *("-h", "--version", "-v", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color"),
    "--skip-checks",
}
WORKER = "Processes webhooks and jobs until SIGTERM. Run any number, on any machine."
JSON_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "Sequence": "list",
}


def settings() -> str:
    """Return a table of the settings that `config/settings.py` reads, in its order."""
    return table(["name", "default", "meaning"], [list(row) for row in setting_rows()])


def setting_rows() -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning of each setting, from the strings below the assignments."""
    statements = ast.parse((PROJECT / "config" / "settings.py").read_text()).body
    for statement, below in pairwise(statements):
        if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
            continue
        for paragraph in inspect.cleandoc(str(below.value.value)).split("\n\n"):
            explicit = re.match(r"([A-Z_]+) \((.+?)\): (.+)", paragraph, re.DOTALL)
            if explicit:
                yield f"`{explicit[1]}`", explicit[2], explicit[3]
            else:
                name, default = _name_and_default(statement)
                yield f"`{name}`", default, paragraph


def _name_and_default(statement: ast.stmt) -> tuple[str, str]:
    [call] = [node for node in ast.walk(statement) if isinstance(node, ast.Call) and node.args][:1]
    name, *values = [ast.literal_eval(argument) for argument in call.args[:2]]
    values += [ast.literal_eval(option.value) for option in call.keywords if option.arg == "default"]
    default = str(values[0]).lower() if values and isinstance(values[0], bool) else "".join(values)
    return name, f"`{default}`" if default else "none"


# Commands


def commands() -> str:
    """Return a section for each command of this project."""
    ours = [(name, app) for name, app in get_commands().items() if app in ("tenants", "clerk_integration")]
    sections = []
    for name, app in sorted(ours):
        command = load_command_class(app, name)
        parser: ArgumentParser = command.create_parser("manage.py", name)
        title = name
        for action in parser._actions:
            if isinstance(action, _SubParsersAction):  # Procrastinate's, of which only the worker is needed
                title, parser = f"{name} worker", action.choices["worker"]
                parser.description = WORKER
        sections.append(_command(title, parser, type(command).__doc__ or ""))
    return "\n\n".join(sections)


def _command(name: str, parser: ArgumentParser, docstring: str) -> str:
    options = [action for action in parser._actions if not _is_djangos(action)]
    lines = [f"## `{name}`", " ".join(str(parser.description).split())]
    if docstring.startswith("Exit code"):
        lines.append(" ".join(docstring.split()))
    if options:
        lines.append(table(["option", "does"], [[_option(one), _help(one)] for one in options]))
    return "\n\n".join(lines)


def _is_djangos(action: Action) -> bool:
    return action.help == SUPPRESS or bool(DOCUMENTED_BY_DJANGO & set(action.option_strings))


def _option(action: Action) -> str:
    names = [*action.option_strings[-1:], str(action.metavar or action.dest)]
    values = "" if action.nargs == 0 or not action.option_strings else _values(action)
    return f"`{names[0]}{values}`"


def _values(action: Action) -> str:
    name = action.metavar or (
        "|".join(str(getattr(one, "value", one)) for one in action.choices)
        if action.choices
        else action.dest.upper()
    )
    return f" {name}{' ...' if action.nargs in ('+', '*') else ''}"


def _help(action: Action) -> str:
    text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    default = action.default
    if "default" not in text and default not in (None, False, 0, "", SUPPRESS):
        text = f"{text.rstrip('.')} (default: {default})"
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def signals() -> str:
    """Return the signals of `tenants.signals`, from its docstring."""
    entries = re.findall(
        r"^\* (\w+)\((.*?)\): (.*?)(?=^\* |\Z)", str(tenants.signals.__doc__), re.DOTALL | re.MULTILINE
    )
    rows = [[f"`{name}`", f"`{arguments}`", meaning] for name, arguments, meaning in entries]
    return table(["signal", "arguments", "sent when"], rows)


def permissions() -> str:
    """Return the permissions of the models, and the groups that have them."""
    groups: dict[str, list[tuple[str, str]]] = import_module("tenants.migrations.0010_permissions").GROUPS
    named = dict(Tenant._meta.permissions)
    every = list(dict.fromkeys(one for granted in groups.values() for one in granted))
    rows = [
        [
            f"`{app}.{codename}`",
            named.get(codename, f"Can {codename.replace('_', ' ', 1)}"),
            *("yes" if (app, codename) in granted else "" for granted in groups.values()),
        ]
        for app, codename in every
    ]
    return table(["permission", "meaning", *groups], rows)


def admin_actions() -> str:
    """Return the actions of staff: first effect, permission, and the tenants to which each does not apply."""
    rows = [
        [
            f"*{step.label}*",
            QUESTIONS[step.key].effects[0],
            "; ".join(one.reason for one in step.obstacles) or "-",
            f"`{step.permission}`",
        ]
        for step in STEPS.values()
    ]
    return table(["action", "does", "not for a tenant that is", "permission"], rows)


def sandbox() -> str:
    """Return the tables of the control API, and a section for each kind of request body."""
    paths, *others = str(control.__doc__).split("\n\n")[1:]
    kinds = {
        kind.__name__: kind
        for module in (control, api_keys)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, parameters.ControlParameters)
    }
    named = re.findall(r"`([A-Z]\w+)`", paths)
    paths = re.sub(r"`([A-Z]\w+)`", lambda match: f"[{match[1]}](#{match[1].lower()})", paths)
    return "\n\n".join([paths, *others, *(_body(kinds[name]) for name in dict.fromkeys(named))])


def benchmarks() -> str:
    """Return a section for each benchmark in `docs/benchmarks.json`."""
    recorded: dict[str, Any] = json.loads((PROJECT / "docs" / "benchmarks.json").read_text())
    sections = [_benchmark(name, run) for name, run in recorded.items()]
    return "\n\n".join(sections) or "No figures were recorded yet."


def _benchmark(name: str, run: dict[str, Any]) -> str:
    targets = [f"* {'held' if held else 'missed'}: {target}" for target, held in run["targets"].items()]
    about = _first_line(PROJECT / "tests" / "benchmarks" / f"{name.partition(',')[0]}.py")
    lines = [f"## `{name}`", about, f"{run['date']}; {run['machine']}.", table(run["columns"], run["rows"])]
    return "\n\n".join([*lines, "\n".join(targets)]).strip()


def _first_line(module: Path) -> str:
    return str(ast.get_docstring(ast.parse(module.read_text()))).partition("\n")[0]


def _body(kind: Any) -> str:
    rows = []
    for item in fields(kind):
        default = "required" if item.default is MISSING else f"`{json.dumps(item.default)}`"
        annotation = item.type.__name__ if isinstance(item.type, type) else str(item.type)
        kind_of_value = JSON_TYPES.get(re.split(r"[\[ ]", annotation)[0].rpartition(".")[2], "object")
        rows.append([f"`{kind.sent_name(item.name)}`", kind_of_value, default])
    about = inspect.cleandoc(str(kind.__doc__))
    return f"### {kind.__name__}\n\n{about}\n\n{table(['field', 'type', 'default'], rows)}"


def membership_rule() -> str:
    """Return the truth table above MEMBERSHIP_CHANGES."""
    source = (PROJECT / "tenants" / "mirror" / "statements.py").read_text()
    comment = source.partition("MEMBERSHIP_CHANGES = ")[0].rpartition("\n\n")[2]
    rows: list[list[str]] = []
    for line in comment.splitlines():
        cells = [cell.strip() for cell in line.removeprefix("#").split("|")]
        if len(cells) != len(("our row", "incoming", "written if")):
            continue
        if rows and not all(cells):  # continues the row above
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    return table(rows[0], rows[1:])
