"""What the pages say can be followed: links resolve, command lines parse, examples are valid.

Nothing is executed. A command line is a line of a fenced block, or a piece in code signs,
that begins with `pleura`; it must name a command that exists, only its options, and in a
fenced block everything the command needs.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from pleura.anonymizer.cli import app as anonymize_app
from pleura.client.cli import app as client_app
from pleura.client.demo.cli import app as demo_app
from pleura.client.settings import SiteSettings
from pleura.common.orders import RunPlan
from pleura.server.cli import app as server_app
from pleura.server.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[2]
APPS = {"server": server_app, "client": client_app, "anonymize": anonymize_app, "demo": demo_app}
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
SHELL_FENCES = ("", "sh", "bash", "console")
# what one writes in a sentence for the whole program, and the option the program itself knows
WHOLE = {"pleura", "pleura --version", "pleura --help", "pleura ..."}


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(text: str) -> Iterator[tuple[str, str]]:
    """Yield language and body of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def prose(text: str) -> str:
    return re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def fenced_commands(text: str) -> Iterator[str]:
    """Yield each `pleura` command line of the shell blocks, continued lines joined."""
    for language, body in fences(text):
        if language not in SHELL_FENCES:
            continue
        for line in body.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ")
            found = re.search(
                r"(?:^|[ /(=])(pleura (?:server|client|anonymize|demo)\b[^)|>;&]*)", words
            )
            if found and "│" not in line and "->" not in line:
                yield found[1]


def inline_commands(text: str) -> Iterator[str]:
    for piece in re.findall(r"`(pleura[^`\n]*(?:\n[^`\n]+)?)`", prose(text)):
        words = " ".join(piece.split())
        if words not in WHOLE and not re.match(r"pleura[.\-_/]", words):
            yield words


@cache
def command_tree(name: str) -> Any:
    return typer.main.get_command(APPS[name])


def check(line: str, *, needs_all: bool) -> None:
    """Parse one command line.

    Raises:
        click.ClickException: a command, option or argument is not there.
    """
    words = shlex.split(line, comments=True)[1:]
    if not words or words[0] not in APPS:
        raise click.UsageError("no such command")
    command, words = command_tree(words[0]), words[1:]
    context = click.Context(command, info_name=line)
    while getattr(command, "commands", {}) and words:
        if words[0] == "...":
            return
        found = command.commands.get(words[0])
        if found is None:
            raise click.UsageError(f"no such command {words[0]}")
        command, words = found, words[1:]
        context = click.Context(command, info_name=words[0] if words else "")
    if words == ["--help"]:
        return
    if getattr(command, "commands", {}):
        if needs_all:
            raise click.UsageError("the command is not whole")
        return
    parser = command.make_parser(context)
    values, rest, _ = parser.parse_args(args=list(words))
    if rest:
        raise click.UsageError(f"unexpected {rest}")
    if needs_all:
        given = {name for name, value in values.items() if isinstance(value, str | tuple)}
        absent = [p.name for p in command.params if p.required and p.name not in given]
        if absent:
            raise click.UsageError(f"missing {absent}")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_line_parses(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = []
    for lines, needs_all in ((fenced_commands(text), True), (inline_commands(text), False)):
        for line in lines:
            try:
                check(line, needs_all=needs_all)
            except (click.ClickException, ValueError) as exc:
                wrong.append(f"{line}: {exc}")
    assert wrong == []


def test_command_lines_are_found_at_all() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert len(list(fenced_commands(text))) >= 10


@pytest.mark.parametrize(
    "line",
    [
        "pleura serve init",
        "pleura server start",
        "pleura client run --verbose",
        "pleura client join",
        "pleura client join CODE again",
        "pleura server runs create --plan plan.toml",
        "pleura server sites",
        "pleura demo --report x",
    ],
)
def test_a_command_line_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(click.ClickException):
        check(line, needs_all=True)


@pytest.mark.parametrize(
    "line",
    [
        "pleura client labels import labels.csv --task cxr_abnormal",
        "pleura server log list --from 10 --limit 5 --json",
        "pleura server sites revoke north --yes --config server.toml",
        "pleura demo --patients 40 --rounds 1",
    ],
)
def test_a_command_line_that_exists_passes(line: str) -> None:
    check(line, needs_all=True)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_toml_block_is_a_valid_file(page: Path) -> None:
    for language, body in fences(page.read_text(encoding="utf-8")):
        if language != "toml":
            continue
        data = tomllib.loads(body)
        if "site_id" in data:
            SiteSettings.model_validate(data)
        elif "training_sites" in data:
            RunPlan.model_validate({"federation_id": "x1", "run_id": "r1", **data})
        else:
            ServerSettings.model_validate(data)


def test_every_test_that_a_page_names_exists() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    named = {
        (relative(page), name)
        for page in PAGES
        for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert {(page, name) for page, name in named if name not in there} == set()
