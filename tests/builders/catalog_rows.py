"""Builder of catalog entries, for tests that need rows but no files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pleura.client.ingest.catalog import Catalog, CatalogEntry
from pleura.client.ingest.geometry import Geometry

RECEIPT = '{"profile":"gdpr_pseudonymous"}'


def entry(
    sop: str = "2.25.1",
    *,
    study: str = "2.25.100",
    series: str = "2.25.200",
    patient: str = "PAAAAAAAAAAAAAAAA",
    modality: str = "CT",
    accession_key: str | None = None,
    sop_key: str | None = None,
    position_mm: float | None = None,
    orientation: str = "1.00\\0.00\\0.00\\0.00\\1.00\\0.00",
    instance_number: int | None = None,
    basis: Literal["patient", "study"] = "patient",
    receipt: str = RECEIPT,
    removals: frozenset[tuple[str, str]] = frozenset(),
) -> CatalogEntry:
    """Return one entry; what is not named is plausible and fixed."""
    return CatalogEntry(
        sop_uid=sop,
        study_uid=study,
        series_uid=series,
        patient=patient,
        modality=modality,
        path=f"objects/{patient}/{study}/{series}/{sop}.dcm",
        sha256="ab" * 32,
        size_bytes=1000,
        accession_key=accession_key,
        sop_key=sop_key or f"key-of-{sop}",
        geometry=Geometry(
            position_mm=position_mm,
            orientation=orientation if position_mm is not None else "",
            instance_number=instance_number,
        ),
        basis=basis,
        input_digest="cd" * 32,
        receipt=receipt,
        removals=removals,
    )


def catalog_of(path: Path, *entries: CatalogEntry) -> Catalog:
    """Return a writable catalog that holds the entries."""
    catalog = Catalog(path)
    catalog.add(entries)
    return catalog
