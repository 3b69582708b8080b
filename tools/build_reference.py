"""Write docs/reference from the code: errors, events, settings, plan and commands.

`tests/architecture/test_reference.py` compares the committed pages with what this makes, so
they cannot go stale. What a key or an event means is said in `reference_notes.toml`, which
must name each exactly once.

    python tools/build_reference.py
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer.main
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, StringConstraints

from pleura.anonymizer.cli import app as anonymize_app
from pleura.client.cli import app as client_app
from pleura.client.demo.cli import app as demo_app
from pleura.client.settings import SiteSettings
from pleura.common.errors import PleuraError
from pleura.common.events import EVENTS, FIELDS
from pleura.common.exit_codes import ExitCode
from pleura.common.orders import RunPlan
from pleura.server.cli import app as server_app
from pleura.server.settings import ServerSettings

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "docs" / "reference"
NOTES: Final = Path(__file__).with_name("reference_notes.toml")
APPS: Final[Mapping[str, typer.Typer]] = {
    "server": server_app,
    "client": client_app,
    "anonymize": anonymize_app,
    "demo": demo_app,
}
PACKAGES: Final = ("common", "anonymizer", "client", "server")
HEADER: Final = (
    "<!-- made by tools/build_reference.py; change the code or the notes, not this page -->"
)
TOP: Final = "(top)"
# keys of a plan file that `pleura server runs create` fills in itself
FILLED_IN: Final = {
    "federation_id": "filled in",
    "run_id": "filled in",
    "privacy.sigma": "computed",
}
EXITS: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.INCOMPLETE: "done, but some items were refused, quarantined or could not be used",
    ExitCode.USAGE: "the command line itself was wrong, or a needed --yes is missing",
    ExitCode.CONFIG: "a configuration, key, plan or rule file must be corrected",
    ExitCode.ENVIRONMENT: "this machine cannot do it now: disk, port, clock, sandbox",
    ExitCode.REFUSED: "a signature, policy, budget or privacy rule said no",
    ExitCode.UNREACHABLE: "the other side did not answer",
    ExitCode.INTERNAL: "a fault in Pleura itself, printed as `FAULT`",
    ExitCode.STOPPED: "stopped by Ctrl-C",
}


class NotesMismatch(ValueError):
    """A key or event has no note, or a note has no key or event."""


def pages() -> dict[str, str]:
    """Return file name -> text of every reference page.

    Raises:
        NotesMismatch: `reference_notes.toml` and the code name different things.
    """
    notes = tomllib.loads(NOTES.read_text(encoding="utf-8"))
    return {
        "errors.md": errors_page(),
        "events.md": events_page(notes["events"]),
        "settings.md": settings_page(notes),
        "plan.md": plan_page(notes["plan"]),
        "cli.md": cli_page(),
        "deid-conformance.md": conformance_page(),
    }


# --- errors ------------------------------------------------------------------------


def error_classes() -> Iterator[tuple[str, type[PleuraError]]]:
    """Yield package and class of every error that is defined in a package's `errors` module."""
    for package in PACKAGES:
        module = importlib.import_module(f"pleura.{package}.errors")
        for _, found in inspect.getmembers(module, inspect.isclass):
            if issubclass(found, PleuraError) and found.__module__ == module.__name__:
                yield package, found


def errors_page() -> str:
    """Return the page of codes, what to do, and exit statuses."""
    rows = [
        (f"`{e.code}`", e.hint, f"{int(e.exit_code)}", f"`{e.__name__}`", package)
        for package, e in error_classes()
    ]
    exits = [(str(int(code)), code.name, EXITS[code]) for code in ExitCode]
    return _page(
        "Errors",
        "A command that fails prints the code with a detail, and what to do. A code never changes"
        " its meaning. Details name tags, digests and counts; never a DICOM value, a file name"
        " from a PACS or a key.",
        "## Exit status",
        _table(("status", "name", "meaning"), exits),
        "`pleura client doctor` and `pleura client ingest` use 1 too when a check failed or an"
        " object was quarantined. A fault that costs one file only puts it in quarantine as"
        " `INTERNAL` (1), and the batch goes on; one that ends the command is `FAULT` (70).",
        "## Codes",
        _table(("code", "what to do", "exit", "class", "package"), sorted(rows)),
    )


# --- conformance -------------------------------------------------------------------


def conformance_page() -> str:
    """Return the page of what the de-identifier does of PS3.15, made by the tool beside this."""
    path = Path(__file__).with_name("build_conformance.py")
    spec = importlib.util.spec_from_file_location("build_conformance", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _page("De-identification conformance", *module.parts(_table))


# --- events ------------------------------------------------------------------------


def events_page(notes: Mapping[str, str]) -> str:
    """Return the page of everything a process may say about itself."""
    _require_same("events", notes, EVENTS)
    fields = [(f"`{name}`", _field_rule(rule)) for name, rule in FIELDS.items()]
    rows = [
        (f"`{name}`", notes[name], ", ".join(f"`{f}`" for f in sorted(EVENTS[name])))
        for name in EVENTS
    ]
    return _page(
        "Events",
        "Each process writes JSON lines to `<state_dir>/log/<process>.jsonl`. This list is closed:"
        " an event, field or value that is not declared cannot be written. Every line also has"
        " `ts` (UTC), `event` and `by` (the process).",
        "## Events",
        _table(("event", "said when", "fields"), rows),
        "## Fields",
        _table(("field", "allowed value"), fields),
    )


def _field_rule(rule: str | type) -> str:
    if isinstance(rule, str):
        return "text that matches `" + rule.replace("|", "\\|") + "`"
    return "whole number" if rule is int else "number"


# --- settings and plan -----------------------------------------------------------------


def settings_page(notes: Mapping[str, Mapping[str, str]]) -> str:
    """Return the page of `site.toml` and `server.toml`."""
    return _page(
        "Settings",
        "One TOML file a process. An unknown key is refused by name (`CFG-KEY`), a wrong value too"
        " (`CFG-VALUE`). A relative path starts at the folder of the file. Numbers that must be"
        ' exact may be written as text: `"8"`.',
        "Examples: [site.toml](../../deploy/examples/site.toml),"
        " [server.toml](../../deploy/examples/server.toml).",
        "## site.toml",
        *_model_parts(SiteSettings, notes["site"]),
        "## server.toml",
        *_model_parts(ServerSettings, notes["server"]),
    )


def plan_page(notes: Mapping[str, str]) -> str:
    """Return the page of the run plan."""
    return _page(
        "Run plan",
        "What `pleura server runs create` reads with `--plan`. Everything is fixed and signed"
        " before the first order. Three keys may be left out of the file: `federation_id` (taken"
        " from `server.toml`), `run_id` (made), and `privacy.sigma` (the least noise that keeps the"
        " whole run within `epsilon` is computed).",
        "Example: [plan.toml](../../deploy/examples/plan.toml). The parts must also agree with each"
        " other:",
        "\n".join(f"- {rule}" for rule in _agreements()),
        *_model_parts(RunPlan, notes, FILLED_IN),
    )


def _agreements() -> Sequence[str]:
    return (
        "no site is named twice, and none both trains and validates externally",
        "`fed.min_sites` is at most the number of training sites",
        "`train.batch_patients` is at most `privacy.n_ref`",
        '`fed.weights` has one weight for each training site with `weighting = "plan"`, else none',
        '`preproc.modality` is `"CT"` for `ct_nodule_malignancy` and `"CXR"` for `cxr_abnormal`',
        "`preproc.hu_high` is above `preproc.hu_low`",
        'no `train.weight_decay` with `privacy.mode = "dp"`',
    )


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield section, key and pydantic field of a model and its sections, depth first."""
    sections = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            sections.append((key, field.annotation))
        else:
            yield prefix or TOP, key, field
    for key, section in sections:
        yield from keys_of(section, key)


def _model_parts(
    model: type[BaseModel], notes: Mapping[str, str], filled_in: Mapping[str, str] | None = None
) -> list[str]:
    found = list(keys_of(model))
    names = [key if section == TOP else f"{section}.{key}" for section, key, _ in found]
    _require_same(model.__name__, notes, names)
    tables: dict[str, list[tuple[str, ...]]] = {}
    for name, (section, key, field) in zip(names, found, strict=True):
        default = "required" if field.is_required() else _default(field)
        default = (filled_in or {}).get(name, default)
        row = (f"`{key}`", _type(field.annotation, field.metadata), default, notes[name])
        tables.setdefault(section, []).append(row)
    head = ("key", "value", "default", "meaning")
    parts: list[str] = []
    for section, rows in tables.items():
        parts += [
            f"### {'Top of the file' if section == TOP else f'[{section}]'}",
            _table(head, rows),
        ]
    return parts


def _type(annotation: Any, metadata: Sequence[object] = ()) -> str:
    """Return an annotation with its bounds in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(inner[0], [*metadata, *inner[1:]])
    if origin is typing.Literal:
        return " or ".join(_toml(value) for value in inner)
    if origin is tuple:
        return f"list of: {_type(inner[0])}{_bounds(metadata)}"
    if origin is dict:
        return f"table of {_type(inner[0])} to {_type(inner[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in inner)
    if isinstance(annotation, typing.NewType):
        return _type(annotation.__supertype__, metadata)
    words = {bool: "true or false", int: "whole number", float: "number", Decimal: "decimal",
             str: "text", Path: "path"}  # fmt: skip
    return words[annotation] + _bounds(metadata)


def _bounds(metadata: Sequence[object]) -> str:
    said = []
    for rule in metadata:
        match rule:
            case Gt(gt=x):
                said.append(f"above {_plain(x)}")
            case Ge(ge=x):
                said.append(f"from {_plain(x)}")
            case Lt(lt=x):
                said.append(f"below {_plain(x)}")
            case Le(le=x):
                said.append(f"to {_plain(x)}")
            case MinLen(min_length=x):
                said.append(f"at least {x}")
            case MaxLen(max_length=x):
                said.append(f"at most {x}")
            case StringConstraints(pattern=pattern) if pattern is not None:
                said.append(f"`{pattern}`")
            case _ if getattr(rule, "pattern", None):
                said.append(f"`{rule.pattern}`")  # type: ignore[attr-defined]
    return f", {' '.join(said)}" if said else ""


def _plain(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _default(field: Any) -> str:
    return _toml(field.get_default(call_default_factory=True))


def _toml(value: object) -> str:
    """Return a value as one writes it in TOML, in code signs."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, Decimal | str | Path):
        text = f'"{_plain(value)}"'
    elif isinstance(value, dict | tuple):
        text = "{}" if isinstance(value, dict) else "[]"
        if value:
            raise ValueError("a default that is not empty")
    else:
        text = str(value)
    return f"`{text}`"


# --- commands ----------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, as `pleura ...` and its click object."""
    for name, app in APPS.items():
        yield from _leaves(f"pleura {name}", typer.main.get_command(app))


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from _leaves(f"{path} {name}", child)


def cli_page() -> str:
    """Return the page of commands with their arguments and options."""
    parts = [
        "Standard output is data, standard error is talk. Each command has `--help`;"
        " `pleura --version` prints the version. Exit statuses: [errors](errors.md#exit-status).",
    ]
    for path, command in commands():
        parts += [f"## {path}", _summary(command.help)]
        rows = [_parameter(p) for p in command.params if p.name not in _HIDDEN]
        if rows:
            parts.append(_table(("argument or option", "value", "default", "meaning"), rows))
    return _page("Commands", *parts)


_HIDDEN: Final = {"install_completion", "show_completion", "help"}


def _summary(text: str | None) -> str:
    return " ".join((text or "").split()).replace("<", "&lt;")  # else a browser eats it


def _parameter(parameter: Any) -> tuple[str, str, str, str]:
    is_option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if is_option else (parameter.metavar or parameter.name.upper())
    default = parameter.default
    if parameter.required:
        said = "required"
    elif default is None or default is False:
        said = "-"
    else:
        said = f"`{default.value if isinstance(default, Enum) else default}`"
    meaning = getattr(parameter, "help", None) or "-"
    if getattr(parameter, "envvar", None):
        meaning += f" Environment: `{parameter.envvar}`."
    return f"`{name}`", _value(parameter), said, meaning


def _value(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "-"
    kind = parameter.type
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is not None or high is not None:
        return (
            "whole number"
            + ("" if low is None else f" from {low}")
            + ("" if high is None else f" to {high}")
        )
    return "path" if kind.name in ("path", "file", "directory") else str(kind.name)


# --- text --------------------------------------------------------------------------------


def _require_same(what: str, notes: Mapping[str, str], names: typing.Iterable[str]) -> None:
    missing, orphaned = set(names) - set(notes), set(notes) - set(names)
    if missing or orphaned:
        raise NotesMismatch(f"{what}: without note {sorted(missing)}, orphaned {sorted(orphaned)}")


def _page(title: str, *parts: str) -> str:
    wrapped = [part if part[0] in "|#-" else _wrap(part) for part in parts]
    return "\n\n".join([HEADER, f"# {title}", *wrapped]) + "\n"


def _wrap(text: str) -> str:
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cell.replace(chr(10), ' ') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
