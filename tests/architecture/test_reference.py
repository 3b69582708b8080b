"""The pages of docs/reference are what the code says, to the byte."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pleura.common.errors import PleuraError

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "build_reference.py"
PAGES = ("errors.md", "events.md", "settings.md", "plan.md", "cli.md", "deid-conformance.md")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_reference", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tool: ModuleType) -> dict[str, str]:
    pages: dict[str, str] = tool.pages()
    return pages


def test_the_tool_makes_every_page_and_no_other(made: dict[str, str]) -> None:
    assert set(made) == set(PAGES)
    assert {path.name for path in (ROOT / "docs" / "reference").glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_is_what_the_code_says(made: dict[str, str], name: str) -> None:
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == made[name], "run: python tools/build_reference.py"


def test_every_argument_and_option_is_explained(made: dict[str, str]) -> None:
    rows = [line for line in made["cli.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("| - |")] == []


def test_every_public_error_is_on_the_page(tool: ModuleType, made: dict[str, str]) -> None:
    listed = {error for _, error in tool.error_classes()}
    waiting, unlisted = [PleuraError], set()
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        if error.__module__.startswith("pleura.") and not error.__name__.startswith("_"):
            unlisted |= {error} - listed
    assert unlisted == set()
    assert all(f"| `{error.code}` | {error.hint} |" in made["errors.md"] for error in listed)


def test_an_event_or_key_without_a_note_is_named(tool: ModuleType) -> None:
    with pytest.raises(tool.NotesMismatch, match=r"process\.started"):
        tool.events_page({})


def test_a_note_without_a_key_is_named(tool: ModuleType) -> None:
    with pytest.raises(tool.NotesMismatch, match="no_such_key"):
        tool.settings_page({"site": {"no_such_key": "?"}, "server": {}})
