"""Identity at a site: pseudonyms drawn at random, keys that never mix, patients erased."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pleura.anonymizer.erasure import ErasureIndex, Use
from pleura.anonymizer.errors import ErasureRefused, OptionRefused
from pleura.client.cli import app
from pleura.client.erasing import erase_patient
from pleura.client.errors import KeyVersionsMixed
from pleura.client.ingest.catalog import Catalog
from pleura.client.ingest.labels import import_labels
from pleura.client.ingest.process import scan_once, single_ingest
from pleura.client.ingest.vault import open_pseudonym_key
from pleura.client.settings import SiteSettings
from pleura.client.supervisor import single_instance
from pleura.common.errors import AlreadyRunning
from tests.builders.ingest_site import ct_study, site_of, stored_files

CT = "ct_nodule_malignancy"
STEWARD = "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f"


def _with(site: SiteSettings, **ingest: object) -> SiteSettings:
    section = type(site.ingest).model_validate(site.ingest.model_dump() | ingest)
    return site.model_copy(update={"ingest": section})


def _patients(site: SiteSettings) -> list[str]:
    return sorted({path.relative_to(site.store_dir).parts[1] for path in stored_files(site)})


def _label(site: SiteSettings, tmp_path: Path, accessions: list[str]) -> None:
    csv = tmp_path / "labels.csv"
    csv.write_text("accession,label\n" + "".join(f"{name},1\n" for name in accessions))
    with Catalog(site.catalog_file) as catalog:
        import_labels(csv, CT, catalog, open_pseudonym_key(site.pseudonym_key_file))


@pytest.fixture
def site(tmp_path: Path) -> SiteSettings:
    return site_of(tmp_path)


def test_a_site_with_safe_harbor_draws_names_and_keeps_them(
    site: SiteSettings, tmp_path: Path
) -> None:
    drawing = _with(site, profile="hipaa_safe_harbor", steward_key=STEWARD, workers=2)
    study = ct_study(tmp_path, 1, slices=2)
    assert scan_once(drawing).stored == 2
    (name,) = _patients(drawing)
    assert name != open_pseudonym_key(site.pseudonym_key_file).patient(study[0].patient_id, "")
    assert drawing.mapping_file.stat().st_mode & 0o077 == 0
    ct_study(tmp_path, 1, slices=4)
    assert scan_once(drawing).stored == 2
    assert _patients(drawing) == [name]
    assert study[0].patient_id.encode() not in drawing.mapping_file.read_bytes()


def test_a_profile_is_given_only_options_it_offers(site: SiteSettings) -> None:
    with pytest.raises(OptionRefused):
        scan_once(_with(site, options=("year_only",)))


@pytest.mark.parametrize("change", ["key", "profile", "mapping"])
def test_objects_named_in_two_ways_make_no_cohort(
    site: SiteSettings, tmp_path: Path, change: str
) -> None:
    first = ct_study(tmp_path, 1, slices=2)
    if change == "mapping":
        site = _with(site, profile="hipaa_safe_harbor")
    scan_once(site)
    _label(site, tmp_path, [first[0].accession])
    with Catalog(site.catalog_file, read_only=True) as catalog:
        assert catalog.cohort(CT, "external", seed=1, store=site.store_dir).patients == 1
    if change == "key":
        site.pseudonym_key_file.unlink()
    elif change == "mapping":
        site.mapping_file.unlink()
    else:
        site = _with(site, profile="hipaa_safe_harbor")
    ct_study(tmp_path, 2, slices=2)
    scan_once(site)
    with (
        Catalog(site.catalog_file, read_only=True) as catalog,
        pytest.raises(KeyVersionsMixed),
    ):
        catalog.cohort(CT, "external", seed=1, store=site.store_dir)


# --- erasing --------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["gdpr_pseudonymous", "hipaa_safe_harbor"])
def test_an_erased_patient_is_gone_and_does_not_come_back(
    site: SiteSettings, tmp_path: Path, profile: str
) -> None:
    site = _with(site, profile=profile)
    one, two = ct_study(tmp_path, 1, slices=2), ct_study(tmp_path, 2, slices=2)
    scan_once(site)
    _label(site, tmp_path, [one[0].accession, two[0].accession])
    gone, kept = _patients(site)
    with Catalog(site.catalog_file) as catalog:
        of_gone = len(catalog.files_of(gone))
    use = Use(f"{CT}/train", "run-1", 2)
    site.trainer_dir.mkdir(mode=0o700)
    with ErasureIndex(site.rounds_file) as rounds:
        rounds.add_uses([gone, kept], use)
    cache = site.trainer_dir / "cache"
    cache.mkdir(mode=0o700)
    (cache / "picture.u16").write_bytes(b"prepared")

    done = erase_patient(site, gone)
    assert (done.files, done.rounds) == (of_gone, (use,))
    assert (done.mapping_rows > 0) == (profile == "hipaa_safe_harbor")
    assert _patients(site) == [kept]
    assert not cache.exists()
    with Catalog(site.catalog_file) as catalog:
        counts = catalog.counts()
        assert (counts.patients, dict(counts.labels)) == (1, {CT: 1})

    for path in sorted((tmp_path / "in").rglob("*")):  # the hospital sends everything again
        if path.is_file():
            path.write_bytes(path.read_bytes())
            path.touch()
    summary = scan_once(site)
    assert dict(summary.quarantined) == {"ERASED": of_gone}
    assert _patients(site) == [kept]
    assert not list(site.quarantine_dir.rglob("*.dcm"))
    assert erase_patient(site, gone).is_repeat


def test_copies_of_an_erased_patient_leave_the_quarantine(
    site: SiteSettings, tmp_path: Path
) -> None:
    ct_study(tmp_path, 1, slices=2)
    scan_once(site)
    shelf = site.quarantine_dir / "SELF_CHECK"
    shelf.mkdir(parents=True, mode=0o700)
    for path in (tmp_path / "in").rglob("IM*"):
        (shelf / f"{path.name}.dcm").write_bytes(path.read_bytes())
    (shelf / "damaged.dcm").write_bytes(b"neither")
    assert len(list(shelf.iterdir())) == 3
    erase_patient(site, _patients(site)[0])
    assert [path.name for path in shelf.iterdir()] == ["damaged.dcm"]


def test_nobody_is_erased_while_the_site_or_its_ingest_runs(
    site: SiteSettings, tmp_path: Path
) -> None:
    ct_study(tmp_path, 1, slices=2)
    scan_once(site)
    (name,) = _patients(site)
    with single_instance(site.state_dir / "lock"), pytest.raises(AlreadyRunning):
        erase_patient(site, name)
    assert len(stored_files(site)) == 2
    with (
        single_ingest(site),
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        pytest.raises(AlreadyRunning),
    ):
        pool.submit(erase_patient, site, name).result()
    assert len(stored_files(site)) == 2


def test_an_unknown_pseudonym_is_refused(site: SiteSettings, tmp_path: Path) -> None:
    ct_study(tmp_path, 1, slices=2)
    scan_once(site)
    with pytest.raises(ErasureRefused):
        erase_patient(site, "P" + "A" * 16)
    assert len(stored_files(site)) == 2


def test_the_command_erases_only_when_told_yes(site: SiteSettings, tmp_path: Path) -> None:
    ct_study(tmp_path, 1, slices=2)
    scan_once(site)
    (name,) = _patients(site)
    config = tmp_path / "site.toml"
    config.write_text(
        f'site_id = "{site.site_id}"\nstate_dir = "{site.state_dir}"\n'
        '[coordinator]\nurl = "https://localhost:1"\nfederation_id = "f-1"\nca_file = "ca.pem"\n'
    )
    runner = CliRunner()
    assert runner.invoke(app, ["erase", name, "--config", str(config)]).exit_code == 2
    assert len(stored_files(site)) == 2
    result = runner.invoke(app, ["erase", name, "--config", str(config), "--yes", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"files": 2, "mapping_rows": 0, "rounds": []}
    again = runner.invoke(app, ["erase", name, "--config", str(config), "--yes"])
    assert again.stdout == "files 0, rounds 0\n"


def test_the_vault_is_closed_with_the_pipeline(site: SiteSettings) -> None:
    drawing = _with(site, profile="hipaa_safe_harbor")
    scan_once(drawing)
    with closing(ErasureIndex(drawing.erasure_file)) as index:
        assert index.tombstones() == frozenset()
