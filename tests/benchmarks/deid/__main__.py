"""`python -m tests.benchmarks.deid`: plant, de-identify, score; one table for all tools.

Needs the research data (real files to plant into, and the standard's table). Peers that pip
can install run beside it unless `--no-peers`. With `--out FOLDER` writes `deid.json` and
`deid.md`. Exits 1 if a profile leaks a planted value, removes what must stay or loses a file,
or if two processes with one key disagree; 2 if the data is not there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from pleura.anonymizer.profile import PROFILE_NAMES, load_profile
from tests.benchmarks.deid import peers
from tests.benchmarks.deid.cases import CASES
from tests.benchmarks.deid.conformance import new_errors
from tests.benchmarks.deid.consistency import Consistency
from tests.benchmarks.deid.manifest import Corpus
from tests.benchmarks.deid.planting import Planter
from tests.benchmarks.deid.report import Row, json_of, markdown_of, missed, table_of
from tests.benchmarks.deid.runs import check_consistency, columns_of, run_profile
from tests.benchmarks.deid.scorer import score
from tests.benchmarks.deid.table import read_table
from tests.benchmarks.deid.tokens import Tokens
from tests.builders.shared_data import find_shared_data

SEED: Final = 1
TWICE: Final = ("gdpr_pseudonymous", "hipaa_safe_harbor")  # computed and drawn pseudonyms
_talk = Console(stderr=True)


def measure_profiles(corpus: Corpus, work: Path) -> tuple[list[Row], dict[str, Consistency]]:
    """Run and score every shipped profile, check what two processes agree on."""
    rows: list[Row] = []
    consistency: dict[str, Consistency] = {}
    for name in PROFILE_NAMES:
        _talk.print(f"Pleura {name}")
        run = run_profile(name, corpus.folder, work / name, work / f"{name}.key")
        found = score(corpus, run.outputs, columns_of(load_profile(name)))
        errors = new_errors(corpus, run.outputs)
        rows.append(Row(f"Pleura {name}", found, run.note, errors))
        if name in TWICE:
            consistency[name] = check_consistency(name, corpus.folder, work / f"{name}.twice")
    return rows, consistency


def measure_peers(corpus: Corpus, work: Path) -> list[Row]:
    """Run and score the peers; none claims an option."""
    _talk.print("peers")
    return [
        Row(
            outcome.name,
            score(corpus, outcome.outputs, frozenset()),
            outcome.note,
            new_errors(corpus, outcome.outputs),
        )
        for outcome in peers.run_all(corpus.folder, work)
    ]


def plant(folder: Path) -> Corpus | None:
    """Plant the corpus, or return None where the research data is missing."""
    root = find_shared_data("dicom")
    table = find_shared_data("ps315_table_e1_1.json")
    if root is None or table is None:
        return None
    return Planter(read_table(table), Tokens(SEED)).plant_all(root, CASES, folder)


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description="Score de-identifiers on planted files.")
    parser.add_argument("--out", type=Path, help="folder for deid.json and deid.md")
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        corpus = plant(work / "in")
        if corpus is None:
            _talk.print("the research data is not on this machine")
            return 2
        rows, consistency = measure_profiles(corpus, work)
        if not given.no_peers:
            rows += measure_peers(corpus, work / "peers")
    Console(width=max(100, 30 * (len(rows) + 1))).print(table_of(rows))
    faults = [line for row in rows[: len(PROFILE_NAMES)] for line in missed(row)]
    for profile_name, found in consistency.items():
        same = f"{found.same.correct} of {found.same.required} files alike in two processes"
        print(f"{profile_name}: {same}; {found.shared} of {found.names:,} names under another key")
        if found.same.correct < found.same.required or found.shared:
            faults.append(f"{profile_name}: not consistent or linkable")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "deid.json").write_text(json_of(rows, consistency), encoding="utf-8")
        (given.out / "deid.md").write_text(markdown_of(rows), encoding="utf-8")
    for line in faults:
        _talk.print(line)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
