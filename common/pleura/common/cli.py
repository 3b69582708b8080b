"""The `pleura` command: sub-commands come from the entry-point group `pleura.commands`.

Each package brings its own commands, so a hospital without coordinator code
simply has no `pleura server`. Errors of the tree become two lines and their own
exit status; any other exception is a fault of ours and says only its class.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from traceback import extract_tb
from typing import Final

from rich.console import Console
from rich.markup import escape

from pleura.common.errors import PleuraError
from pleura.common.exit_codes import ExitCode

GROUP: Final = "pleura.commands"


def console() -> Console:
    """Return the console for talk: standard error; standard output is for data."""
    return Console(stderr=True, highlight=False)


@contextmanager
def operator_errors() -> Iterator[None]:
    """Turn an error of the tree into two lines on standard error and its exit status."""
    try:
        yield
    except PleuraError as exc:
        say_error(exc)
        sys.exit(int(exc.exit_code))
    except KeyboardInterrupt:
        console().print("stopped")
        sys.exit(int(ExitCode.STOPPED))
    except Exception as exc:  # noqa: BLE001  its text may hold a file's name or a value
        say_fault(exc)
        sys.exit(int(ExitCode.INTERNAL))


def say_error(exc: PleuraError) -> None:
    """Print code, detail and what to do."""
    out = console()
    out.print(f"[bold red]error[/] {escape(str(exc))}", soft_wrap=True)
    out.print(f"  [dim]what to do:[/] {escape(exc.hint)}", soft_wrap=True)


def say_fault(exc: Exception) -> None:
    """Print the class of a fault of ours and where it came up, and nothing else of it."""
    out = console()
    places = [f"{Path(f.filename).stem}:{f.lineno}" for f in extract_tb(exc.__traceback__)]
    out.print(f"[bold red]error[/] FAULT: {type(exc).__name__} at {places[-1]}")
    out.print("  [dim]what to do:[/] report this line; nothing else of the fault is shown, for it "
              "may hold names", soft_wrap=True)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `pleura` script."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {point.name: point for point in entry_points(group=GROUP)}
    if words and words[0] == "--version":
        sys.stdout.write(version("pleura") + "\n")
        return
    if not words or words[0] in ("-h", "--help"):
        _say_usage(commands)
        return
    point = commands.get(words[0])
    if point is None:
        _say_usage(commands)
        sys.exit(int(ExitCode.USAGE))
    with operator_errors():
        app = _load(point)
        app(args=words[1:], prog_name=f"pleura {words[0]}")


def _load(point: EntryPoint) -> Callable[..., object]:
    command = point.load()
    if not callable(command):
        raise TypeError(f"entry point {point.name} is not a command")
    return command  # type: ignore[no-any-return]


def _say_usage(commands: dict[str, EntryPoint]) -> None:
    out = console()
    out.print("usage: pleura COMMAND ... (each has --help)")
    for name in sorted(commands):
        out.print(f"  pleura {name}")


if __name__ == "__main__":
    main()
