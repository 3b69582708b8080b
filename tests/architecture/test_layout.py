"""The shape of the repository: closed root, import rules, sizes, and what must never be in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = ("server", "client", "common", "anonymizer")
ROOT_ENTRIES = {
    *PORTIONS,
    "tests",
    "deploy",
    "docs",
    "tools",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
}
# the only modules that may import Flower (docs/adr/0001)
FLOWER_MODULES = {
    "pleura.server.flower_app",
    "pleura.server.strategy",
    "pleura.server.superlink",
    "pleura.server.superlink_wire",
    "pleura.server.transport",
    "pleura.client.flower_app",
    "pleura.client.agent.fleet",
    "pleura.client.agent.process",
    "pleura.client.agent.wire",
}


def tracked() -> list[Path]:
    try:
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def modules() -> dict[str, Path]:
    found = {}
    for portion in PORTIONS:
        for path in (ROOT / portion / "pleura").rglob("*.py"):
            if "_pb2" not in path.name and "__pycache__" not in path.parts:
                name = ".".join(path.relative_to(ROOT / portion).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_the_root_is_closed() -> None:
    entries = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert entries == ROOT_ENTRIES


def test_no_portion_hides_the_others() -> None:
    assert [p for p in PORTIONS if (ROOT / p / "pleura" / "__init__.py").exists()] == []


def test_only_the_flower_modules_import_flower() -> None:
    users = {
        name
        for name, path in modules().items()
        if any(i == "flwr" or i.startswith("flwr.") for i in imports(path))
    }
    assert users <= FLOWER_MODULES


def test_no_module_is_longer_than_500_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked()
        if path.suffix == ".py"
        and "_pb2" not in path.name
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert long == {}


def test_every_module_opens_with_its_contract() -> None:
    silent = [
        name
        for name, path in modules().items()
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


FORBIDDEN_CALLS = re.compile(
    r"\bimport pickle\b|\btorch\.load\(|(?<![\w.])eval\(|(?<![\w.])exec\(|shell=True|yaml\.load\("
)


def test_nothing_unpickles_evaluates_or_shells_out() -> None:
    hits = [
        f"{name}:{number}"
        for name, path in modules().items()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FORBIDDEN_CALLS.search(line)
    ]
    assert hits == []


def test_no_machine_path_and_no_registry_host_is_in_the_tree() -> None:
    words = re.compile(
        "|".join(
            [
                "/wo" + "rk/",
                "/ro" + "ot/",
                "/ho" + "me/[a-z]",
                "files.python" + "hosted",
                "pypi.o" + "rg",
            ]
        )
    )
    hits = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        hits += [
            f"{path.relative_to(ROOT)}:{n}"
            for n, line in enumerate(text.splitlines(), 1)
            if words.search(line)
        ]
    assert hits == []


def test_every_dependency_is_pinned_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=\[ ]", item)[0].lower().replace("_", "-") for item in wanted}
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert names - set(pins) == set()
    assert pins["torch"] == "2.13.0"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("pleura.server.cli", ("torch", "opacus", "pydicom")),
        ("pleura.server.gateway.process", ("torch", "opacus", "pydicom")),
        ("pleura.server.flower_app", ("torch", "opacus", "pydicom")),
        ("pleura.client.flower_app", ("torch", "opacus", "pydicom")),
        ("pleura.client.cli", ("torch", "flwr")),
        ("pleura.client.supervisor", ("torch", "flwr", "pydicom")),
        ("pleura.anonymizer.cli", ("torch", "flwr", "grpc")),
    ],
)
def test_a_process_does_not_load_what_it_must_not_hold(
    module: str, forbidden: tuple[str, ...]
) -> None:
    code = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
