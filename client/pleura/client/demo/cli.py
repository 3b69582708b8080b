"""`pleura demo`: options, the folder it may use, and a clean end whatever happens."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from pleura.client.demo.federation import LocalFederation
from pleura.client.demo.plan import phantom_sites, real_sites
from pleura.client.demo.story import Story
from pleura.client.errors import DemoFolderTaken
from pleura.client.phantoms.site import PhantomTask
from pleura.common.cli import console, operator_errors
from pleura.common.files import ensure_private_folder, write_atomic
from pleura.common.orders import TaskName

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A whole federation on this machine, with a report.",
)
MARK: Final = ".pleura-demo"


@app.callback(invoke_without_command=True)
def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Real data: one folder a site with dicom/ and labels.csv inside."),
    ] = None,
    task: Annotated[
        str, typer.Option(help="cxr_abnormal or ct_nodule_malignancy")
    ] = "cxr_abnormal",
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of training.")] = 6,
    patients: Annotated[int, typer.Option(min=30, max=2000, help="Invented patients a site")] = 200,
    out: Annotated[Path, typer.Option(help="Folder of the report")] = Path("demo-report"),
    state: Annotated[Path, typer.Option(help="Folder of keys, stores and logs")] = Path(
        "demo-state"
    ),
) -> None:
    """Start a coordinator and hospitals here, train with privacy, validate externally, report."""
    if task not in ("cxr_abnormal", "ct_nodule_malignancy"):
        raise typer.BadParameter("cxr_abnormal or ct_nodule_malignancy", param_hint="--task")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with operator_errors():
        root = _fresh(state.resolve())
        sites = (
            real_sites(data.resolve())
            if data is not None
            else phantom_sites(root, cast(PhantomTask, task), patients)
        )
        with LocalFederation(root, federation_id="demo") as federation:
            story = Story(console(), federation, cast(TaskName, task))
            page = story.tell(sites, rounds=rounds, out=out.resolve())
    console().print(f"[dim]finished in {time.monotonic() - began:.0f} s; report:[/]")
    sys.stdout.write(f"{page}\n")


def _fresh(root: Path) -> Path:
    """Return an empty demo folder; only one that a demo made is ever deleted."""
    if root.exists() and any(root.iterdir()):
        if not (root / MARK).exists():
            raise DemoFolderTaken("the folder holds something else")
        shutil.rmtree(root)
    ensure_private_folder(root)
    write_atomic(root / MARK, b"")
    return root
