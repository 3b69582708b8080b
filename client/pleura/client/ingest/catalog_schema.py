"""Schema of `store/catalog.db`. A row of `instances` cannot exist without a receipt.

`basis` is `study` where the source named no patient: such an object joins no
cohort, because nobody knows which of them are one person (DEID.md section 4).
"""

from __future__ import annotations

VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    sop_uid TEXT PRIMARY KEY,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    patient TEXT NOT NULL CHECK (patient <> ''),
    modality TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    accession_key TEXT,
    sop_key TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    position_mm REAL,
    orientation TEXT NOT NULL,
    instance_number INTEGER,
    frames INTEGER NOT NULL CHECK (frames >= 1),
    basis TEXT NOT NULL CHECK (basis IN ('patient', 'study')),
    input_digest TEXT NOT NULL CHECK (length(input_digest) = 64),
    receipt TEXT NOT NULL CHECK (json_valid(receipt) AND json_type(receipt) = 'object')
) STRICT;
CREATE INDEX IF NOT EXISTS instances_study ON instances (study_uid);
CREATE INDEX IF NOT EXISTS instances_patient ON instances (patient);
CREATE INDEX IF NOT EXISTS instances_accession ON instances (accession_key);
CREATE INDEX IF NOT EXISTS instances_sop_key ON instances (sop_key);
CREATE INDEX IF NOT EXISTS instances_naming ON instances (
    json_extract(receipt, '$.key_id'), json_extract(receipt, '$.mapping'),
    json_extract(receipt, '$.mapping_id'));

CREATE TABLE IF NOT EXISTS labels (
    task TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('accession', 'sop')),
    key TEXT NOT NULL,
    label INTEGER NOT NULL CHECK (label IN (0, 1)),
    split TEXT CHECK (split IN ('train', 'val', 'test')),
    PRIMARY KEY (task, kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS removals (
    tag TEXT NOT NULL,
    action TEXT NOT NULL,
    objects INTEGER NOT NULL CHECK (objects >= 1),
    PRIMARY KEY (tag, action)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS quarantine (
    source TEXT PRIMARY KEY,
    code TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

SELECT_LABELLED = """
SELECT i.sop_uid, i.study_uid, i.series_uid, i.patient, i.path, i.sha256,
       i.position_mm, i.orientation, i.instance_number, i.frames,
       s.label AS sop_label, s.split AS sop_split,
       a.label AS accession_label, a.split AS accession_split
FROM instances i
LEFT JOIN labels s ON s.task = :task AND s.kind = 'sop' AND s.key = i.sop_key
LEFT JOIN labels a ON a.task = :task AND a.kind = 'accession' AND a.key = i.accession_key
WHERE i.modality IN (SELECT value FROM json_each(:modalities)) AND i.basis = 'patient'
ORDER BY i.sop_uid
"""

COUNT_MATCHED = """
SELECT count(*) FROM labels l WHERE l.task = :task AND CASE l.kind
    WHEN 'sop' THEN EXISTS (SELECT 1 FROM instances WHERE sop_key = l.key)
    ELSE EXISTS (SELECT 1 FROM instances WHERE accession_key = l.key) END
"""

DELETE_LABELS = """
DELETE FROM labels WHERE
    kind = 'sop' AND key IN (SELECT sop_key FROM instances WHERE patient = :patient)
    OR kind = 'accession' AND key IN (
        SELECT accession_key FROM instances WHERE patient = :patient AND accession_key IS NOT NULL)
"""
