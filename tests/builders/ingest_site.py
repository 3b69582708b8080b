"""Builder of a site whose only business is ingest, and of studies in its watched folder."""

from __future__ import annotations

from pathlib import Path

from pleura.client.settings import CoordinatorSection, IngestSection, SiteSettings
from pleura.common.ids import FederationId, SiteId
from tests.builders.tiny_dicom import TinyDicom, write_cr, write_ct

STUDY = "1.2.826.0.1.3680043.8.498.100.{n}"


def site_of(
    folder: Path, *, reserve_gb: float = 0.0, workers: int = 1, poll_s: float = 0.05
) -> SiteSettings:
    """Return the settings of a site with state in `folder/state` that watches `folder/in`."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    return SiteSettings(
        site_id=SiteId("site-a"),
        state_dir=folder / "state",
        coordinator=CoordinatorSection(
            url="https://coordinator.example",
            federation_id=FederationId("fed"),
            ca_file=folder / "ca.pem",
        ),
        ingest=IngestSection(
            watch=(folder / "in",),
            workers=workers,
            poll_s=poll_s,
            settle_s=0.0,
            accept_unread_text=True,
            reserve_gb=reserve_gb,
        ),
    )


def write_site_toml(settings: SiteSettings) -> Path:
    """Write these settings as `site.toml` beside the watched folder, for another process."""
    ingest = settings.ingest
    path = ingest.watch[0].parent / "site.toml"
    path.write_text(
        f"""site_id = "{settings.site_id}"
state_dir = "{settings.state_dir}"
[coordinator]
url = "{settings.coordinator.url}"
federation_id = "{settings.coordinator.federation_id}"
ca_file = "{settings.coordinator.ca_file}"
[ingest]
watch = ["{ingest.watch[0]}"]
workers = {ingest.workers}
poll_s = {ingest.poll_s}
settle_s = {ingest.settle_s}
accept_unread_text = {str(ingest.accept_unread_text).lower()}
reserve_gb = {ingest.reserve_gb}
"""
    )
    return path


def ct_study(folder: Path, n: int = 1, *, slices: int = 3, size_px: int = 8) -> list[TinyDicom]:
    """Write one CT study into `folder/in/ct<n>`, its files named against the anatomical order."""
    study = STUDY.format(n=n)
    written = []
    for number in range(slices):
        tiny = TinyDicom(
            patient_id=f"MRN-4711-{n:04d}",
            accession=f"ACC-9900-{n:04d}",
            study_uid=study,
            series_uid=f"{study}.1",
            sop_uid=f"{study}.1.{number + 1}",
            instance_number=number + 1,
            position_mm=(0.0, 0.0, 10.0 - 2.5 * number),
            size_px=size_px,
        )
        write_ct(folder / "in" / f"ct{n:04d}" / f"IM{number:04d}", tiny)
        written.append(tiny)
    return written


def radiograph(folder: Path, n: int = 500) -> TinyDicom:
    """Write one radiograph of its own patient and study into `folder/in`."""
    study = STUDY.format(n=n)
    tiny = TinyDicom(
        patient_id=f"MRN-0815-{n:04d}",
        patient_name="Brandauer^Leopoldine",
        accession=f"ACC-5500-{n:04d}",
        study_uid=study,
        series_uid=f"{study}.1",
        sop_uid=f"{study}.1.1",
    )
    write_cr(folder / "in" / f"cr{n:04d}" / "IM0001", tiny)
    return tiny


def stored_files(settings: SiteSettings) -> list[Path]:
    """Return every file below `store/objects`."""
    return sorted(p for p in (settings.store_dir / "objects").rglob("*") if p.is_file())
