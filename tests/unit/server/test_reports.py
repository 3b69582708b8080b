"""The study report says what happened: numbers, reasons, absences, privacy, evidence."""

from __future__ import annotations

from pathlib import Path

from pleura.common.orders import PrivacySpec
from pleura.server.reports.html import render, write_page
from tests.builders.studies import blob_ref, plan, study


def test_every_site_has_its_line_with_interval_or_reason() -> None:
    page = render(study())
    for text in ("site-a", "0.910", "0.830", "0.960", "one class", "REJ-COHORT", "site-x"):
        assert text in page


def test_an_absent_and_a_refused_round_are_shown_by_name() -> None:
    page = render(study())
    assert "absent" in page
    assert "REJ-NORM" in page


def test_privacy_is_stated_with_unit_delta_and_composition() -> None:
    page = render(study())
    for text in ("one patient", "0.00001", "3.100", "4.400", "sum of both epsilons"):
        assert text in page


def test_a_run_without_privacy_says_so_and_shows_no_epsilon() -> None:
    page = render(study(plan=plan(privacy=PrivacySpec(mode="none", n_ref=64))))
    assert "no formal guarantee" in page
    assert "noise multiplier" not in page


def test_the_page_is_self_contained_and_names_its_evidence(tmp_path: Path) -> None:
    page = write_page(study(final_model=blob_ref("d")), tmp_path / "report").read_text()
    assert "d" * 64 in page
    assert "c" * 64 in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert page.count("<svg") == 2


def test_the_same_study_gives_the_same_page() -> None:
    assert render(study()) == render(study())


def test_text_from_a_plan_cannot_become_markup() -> None:
    page = render(study(state="<b>finished</b>"))
    assert "<b>finished" not in page
