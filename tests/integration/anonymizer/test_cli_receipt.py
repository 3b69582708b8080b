"""`pleura anonymize receipt`: what is counted, and in which words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from pleura.anonymizer import cli_receipt
from pleura.anonymizer.cohort import Evidence, OutputReceipt
from pleura.anonymizer.receipt import ActionName
from tests.builders.anonymize_cli import call, run, two_files
from tests.builders.identified import ct_dataset, write


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return two_files(tmp_path)


def value_of(text: str, label: str) -> str:
    found = re.search(rf"^ *{re.escape(label)} {{2,}}(\S.*)$", text, re.MULTILINE)
    assert found is not None, (label, text)
    return found[1]


def test_objects_that_nobody_read_are_said_to_be_so(site: Path) -> None:
    unread = {"Modality": "DX", "StudyInstanceUID": "1.2.7", "SeriesInstanceUID": "1.2.8"}
    for number in range(5):
        image = ct_dataset(**unread, SOPInstanceUID=f"1.2.8.{number}")
        write(site / "in" / f"x{number}.dcm", image)
    assert run(site, "--accept-unread-text").exit_code == 0
    text = call("receipt", site / "out").stdout
    assert value_of(text, "accepted although nobody read their pixels") == "5"
    assert json.loads(call("receipt", site / "out", "--json").stdout)["overrides"] == "5"


def test_where_nothing_was_waived_the_receipt_says_that_too(site: Path) -> None:
    run(site)
    text = call("receipt", site / "out").stdout
    assert value_of(text, "accepted although nobody read their pixels") == "0"


def test_what_is_no_object_is_left_out_and_not_quarantined(site: Path) -> None:
    for number in range(6):
        (site / "in" / f"{number}.txt").write_text(f"no DICOM {number}")
    head = ct_dataset(SOPInstanceUID="1.2.12", StudyInstanceUID="1.2.13", BodyPartExamined="HEAD")
    write(site / "in" / "h.dcm", head)
    run(site)
    found = json.loads(call("receipt", site / "out", "--json").stdout)
    assert (found["left_out"], found["quarantined"]) == ("6", {"FACE_IN_FIELD": "<5"})
    text = call("receipt", site / "out").stdout
    assert value_of(text, "left out, no objects") == "6"
    assert "NOT_DICOM" not in text


def test_the_receipt_speaks_plainly(site: Path) -> None:
    run(site)
    text = call("receipt", site / "out", "--evidence").stdout
    words = set(re.findall(r"[a-z_]+", text))
    assert not words & {
        "gone",
        "overrides",
        "hmac",
        "recursed",
        "seed",
        "cell",
        "cells",
        "mappings",
    }
    assert value_of(text, "pseudonyms") == "computed from the key"
    assert value_of(text, "accepted once, not there any more") == "0"
    assert "smallest group of patients with the same sex, age band and modality" in text
    assert max(map(len, text.splitlines())) <= 100


def test_names_drawn_at_random_are_called_so(site: Path) -> None:
    run(site, profile="hipaa_safe_harbor")
    assert value_of(call("receipt", site / "out").stdout, "pseudonyms") == "drawn at random"


def test_every_part_of_a_receipt_has_its_words() -> None:
    assert set(cli_receipt.WORDS) == set(OutputReceipt.model_fields) - {"evidence", "quarantined"}
    assert set(cli_receipt.ACTIONS) == set(get_args(ActionName))
    maps = {"actions", "removed", "method_codes", "reader"}
    assert set(cli_receipt.EVIDENCE) == set(Evidence.model_fields) - maps
