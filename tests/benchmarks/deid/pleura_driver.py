"""Drives the de-identifier of this repository over one folder, in a process of its own.

`python -m tests.benchmarks.deid.pleura_driver --in FOLDER --out FOLDER --json FILE
--key-file FILE [--profile NAME] [--skip-pixels]` writes
`{"files": {source name: path or null}, "note": text}`; a quarantined file has no path, its
code is counted in the note. Which output comes from which source is known from the calls
alone: names and UIDs of the output say nothing about it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from pleura.anonymizer.batch import BatchItem, run_batch
from pleura.anonymizer.mapping import open_pseudonyms
from pleura.anonymizer.profile import PROFILE_NAMES, load_profile
from pleura.anonymizer.pseudonyms import ProjectKey


def deidentify_folder(
    source: Path, out: Path, key_file: Path, profile_name: str, *, skip_pixels: bool = False
) -> dict[str, object]:
    """De-identify every file of a folder; pseudonyms drawn at random are kept beside the key.

    `skip_pixels`: nobody looks for burned-in text, which is where most of the time goes.
    """
    profile = load_profile(profile_name)
    key = ProjectKey.load(key_file) if key_file.exists() else ProjectKey.create(key_file)
    names = open_pseudonyms(profile, key, key_file.with_suffix(".map.db"))
    files = sorted(path for path in source.iterdir() if path.is_file())
    found: dict[str, str | None] = {path.name: None for path in files}
    codes: Counter[str] = Counter()

    def take(item: BatchItem) -> None:
        if item.result is not None:
            found[item.source.name] = str(item.result.path)
        elif item.code is not None:
            codes[item.code] += 1

    run_batch(files, out, out.with_name(out.name + ".quarantine"), profile=profile, key=names,
              allow_unread_text=skip_pixels, on_result=take)  # fmt: skip
    note = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
    return {"files": found, "note": note}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--profile", choices=PROFILE_NAMES, default="gdpr_pseudonymous")
    parser.add_argument("--skip-pixels", action="store_true")
    given = parser.parse_args()
    report = deidentify_folder(
        given.source, given.out, given.key_file, given.profile, skip_pixels=given.skip_pixels
    )
    given.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
