"""Verifying: is a folder of DICOM what the de-identifier promises, seen by other eyes?

Reads the finished files through `leaves` (pydicom's reader, never the engine's) and says which
promise a file breaks: place, marks, file meta, private or odd groups, foreign UIDs, its line in
the audit. Any folder may be given. Answers are counts, and the paths in the folder of files that
failed; no value of a file is among them. `comparing` adds what the sources show, `checks` says
what each check means.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydicom._uid_dict import UID_dictionary

from pleura.anonymizer.audit import AuditLog, Mark
from pleura.anonymizer.checks import AUDIT, AUDITED, SCANNED
from pleura.anonymizer.errors import AuditBroken
from pleura.anonymizer.leaves import Leaf, leaves_of, preamble_of
from pleura.anonymizer.marking import IMPLEMENTATION_CLASS_UID
from pleura.anonymizer.profile import METHOD_MEANINGS, PROFILE_NAMES, Profile, load_profile
from pleura.anonymizer.rules import describe, load_rules
from pleura.anonymizer.scoring import Category, Ratio, scores_to_json
from pleura.anonymizer.source import FileSource
from pleura.anonymizer.verify import safe_leaves
from pleura.anonymizer.writing import digest_of

Names = Literal["uid", "mirror"]

_PSEUDONYM: Final = re.compile(r"P[A-Z2-7]{16}")
_MAPPED: Final = re.compile(r"2\.25\.[1-9][0-9]{0,38}")
_METHOD: Final = re.compile(r"Pleura [0-9]\S* ([a-z][a-z0-9_]{1,39})")
_META_TAGS: Final = frozenset(
    {0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013}
)
_DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"  # newer than pydicom's dictionary


@dataclass(frozen=True, slots=True)
class Facts:
    """What identifies an output file and what its marks claim."""

    patient: str
    study: str
    series: str
    sop: str
    profile: str
    codes: frozenset[str]
    is_modified: bool

    @property
    def claim(self) -> tuple[str, bool, frozenset[str]]:
        """The profile and options, as far as they do not differ from file to file of a run."""
        return self.profile, self.is_modified, self.codes - {"113101"}

    @property
    def place(self) -> str:
        """Where the layout puts the file."""
        return f"{self.patient}/{self.study}/{self.series}/{self.sop}.dcm"


@dataclass(slots=True)
class Compared:
    """What the pairs show: leaks, the ten scores (DEID 14) and what became of the pictures.

    `leaks` has `top`, `nested` and `words`; `lost` counts what a score misses by attribute (0:
    no one attribute); `pixels` has the number of pictures by outcome, and of pixels in them and
    blacked out.
    """

    pairs: int = 0
    leaks: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(("top", "nested", "words"), 0))
    )
    scores: Mapping[Category, Ratio] = field(default_factory=dict)
    lost: Counter[tuple[Category, int]] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> Mapping[str, object]:
        """Return the counts for JSON; unlisted attributes go without their number."""
        lost: Counter[tuple[str, str]] = Counter()
        for (name, tag), count in self.lost.items():
            lost[name, _attribute(tag)] += count
        return {
            "leaks": dict(self.leaks),
            "scores": scores_to_json(self.scores),
            "lost": [[name, tag, count] for (name, tag), count in sorted(lost.items())],
            "pixels": dict(self.pixels),
        }


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What pseudonyms come from: a key, and the mapping they are drawn in, if they are."""

    key_id: str
    key_version: int
    mapping: Literal["hmac", "random"]
    mapping_id: str | None


@dataclass(slots=True)
class Report:
    """What a verification found: `failed` has every check that was made, 0 where it holds.

    `files` has the checks that a file fails by its path below the folder. `absent`: accepted by
    the audit and not there any more, as after an erasure; no failure. `keys` counts the
    audited files by what they were named with. `audit_end_known`: a journal says where the audit
    ended, so that lines cut off it are noticed.
    """

    checked: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    files: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    absent: int = 0
    audit_head: str = ""
    audit_end_known: bool = False
    keys: Counter[KeyUse] = field(default_factory=Counter)
    compared: Compared | None = None

    @property
    def pairs(self) -> int:
        """Number of files that were compared with their source."""
        return self.compared.pairs if self.compared is not None else 0

    @property
    def is_sound(self) -> bool:
        """Whether there was something to verify and every check held."""
        return self.checked > 0 and not any(self.failed.values())

    def blame(self, path: str, problems: Iterable[str]) -> None:
        """Count the checks that a file fails and list it."""
        for problem in problems:
            self.failed[problem] += 1
            self.files[path].add(problem)

    def listed(self) -> list[tuple[str, list[str]]]:
        """Return each file that failed with its checks, in a fixed order."""
        return [(path, sorted(problems)) for path, problems in sorted(self.files.items())]

    def to_dict(self) -> Mapping[str, object]:
        """Return it for JSON."""
        return {
            "is_sound": self.is_sound,
            "checked": self.checked,
            "failed": dict(self.failed),
            "files": [{"path": path, "problems": found} for path, found in self.listed()],
            "absent": self.absent,
            "pairs": self.pairs,
            "audit_head": self.audit_head,
            "audit_end_known": self.audit_end_known,
            "keys": [asdict(use) | {"files": n} for use, n in self.keys.items()],
            **(self.compared.to_dict() if self.compared is not None else {}),
        }


def _attribute(tag: int) -> str:
    rules = load_rules()
    return describe(tag) if tag in rules.rows or tag in rules.kept else "unlisted" if tag else ""


def verify_output(
    out: Path,
    *,
    names: Names = "uid",
    audit: Path | None = None,
    passes: Mark = Mark(),
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Check every file below `out`, against the audit too if there is one.

    `names`: with `mirror` files may lie anywhere below the folder. `passes`: where the journal
    says the audit ended; one that is shorter, or gone, fails.
    """
    report = Report(failed=Counter(dict.fromkeys(SCANNED, 0)), audit_end_known=passes != Mark())
    accepted = None
    if audit is not None and (audit.exists() or report.audit_end_known):
        accepted = _accepted(audit, passes, report)
    seen = _Together()
    for number, path in enumerate(entries(out), start=1):
        place = path.relative_to(out).as_posix()
        if path.is_symlink() or not path.is_file():
            report.blame(place, {"link or other file"})
            continue
        report.checked += 1
        facts, problems = examine(path)
        if facts is not None:
            seen.note(place, facts)
            if names == "uid" and place != facts.place:
                problems |= {"place"}
        if accepted is not None:
            use = accepted.pop(digest_of(path), None)
            if use is None:
                problems |= {"bytes not in the audit"}
            else:
                seen.named[use].append(place)
        report.blame(place, problems)
        if on_progress is not None:
            on_progress(number)
    seen.judge(report)
    report.absent = len(accepted or ())
    return report


class _Together:
    """What only several files show: equal objects, studies of two patients, other keys."""

    def __init__(self) -> None:
        self._objects: defaultdict[str, list[str]] = defaultdict(list)
        self._studies: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        self._claims: defaultdict[Hashable, list[str]] = defaultdict(list)
        self.named: defaultdict[KeyUse, list[str]] = defaultdict(list)

    def note(self, place: str, facts: Facts) -> None:
        """Record a file that could be read."""
        self._objects[facts.sop].append(place)
        self._studies[facts.study].append((facts.patient, place))
        if facts.profile:
            self._claims[facts.claim].append(place)

    def judge(self, report: Report) -> None:
        """Count objects that are there again, studies of two patients, files of another kind."""
        for places in self._objects.values():
            if len(places) > 1:
                report.failed["SOP UID twice"] += len(places) - 1
                _list(report, places, "SOP UID twice")
        for files in self._studies.values():
            if len({patient for patient, _ in files}) > 1:
                report.failed["study of two patients"] += 1
                _list(report, [place for _, place in files], "study of two patients")
        report.keys.update({use: len(places) for use, places in self.named.items()})
        _blame_few(report, self._claims.values(), "profiles mixed")
        _blame_few(report, self.named.values(), "keys mixed")


def _blame_few(report: Report, kinds: Iterable[list[str]], problem: str) -> None:
    """Blame all files but those of the kind that most are of; of two such, the first seen."""
    for places in sorted(kinds, key=len, reverse=True)[1:]:
        for place in places:
            report.blame(place, {problem})


def _list(report: Report, places: Iterable[str], problem: str) -> None:
    for place in places:
        report.files[place].add(problem)


def entries(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is no folder, in a fixed order."""
    yield from (p for p in sorted(folder.rglob("*")) if p.is_symlink() or not p.is_dir())


def examine(path: Path) -> tuple[Facts | None, set[str]]:
    """Return what a file says it is, or None if it cannot be read, and what is wrong with it."""
    try:
        source = FileSource(path)
    except OSError:
        return None, {"unreadable"}
    try:
        leaves = list(leaves_of(source))
        problems = {"preamble"} if any(preamble_of(source)) else set()
    except Exception:  # noqa: BLE001  whatever a damaged file does to the reader
        return None, {"unreadable"}
    finally:
        source.close()
    facts = _facts(leaves)
    profile = claimed_profile(facts)
    safe = safe_leaves(leaves) if profile.safe_private else {}
    retained = load_rules().retained(profile)
    for number, leaf in enumerate(leaves):
        problem = None if number in safe else _problem(leaf, retained)
        if problem:
            problems.add(problem)
    if not _PSEUDONYM.fullmatch(facts.patient) or _top(leaves, 0x00100010) != facts.patient:
        problems.add("pseudonym")
    if not _is_marked(leaves, facts):
        problems.add("marks")
    return facts, problems


def claimed_profile(facts: Facts) -> Profile:
    """Return the profile with exactly the options that the codes in the file claim."""
    name = facts.profile if facts.profile in PROFILE_NAMES else "hipaa_safe_harbor"
    is_shifted = "113107" in facts.codes
    return load_profile(name).model_copy(
        update={
            "dates": "shift" if is_shifted else "remove",
            "year_only": facts.is_modified and not is_shifted,
            "retain_patient_characteristics": "113108" in facts.codes,
            "retain_device_identity": "113109" in facts.codes,
            "safe_private": "113111" in facts.codes,
        }
    )


def _accepted(audit: Path, passes: Mark, report: Report) -> dict[str, KeyUse] | None:
    """Return what the audit knows by the digest of its bytes, or None if its chain is broken."""
    report.failed[AUDIT] = 0
    try:
        log = AuditLog(audit, passes=passes)
    except AuditBroken:
        report.failed[AUDIT] = 1
        return None
    report.failed.update(dict.fromkeys(AUDITED, 0))
    report.audit_head = log.head
    receipts = (line.receipt for line in log.lines_after(0) if line.receipt is not None)
    return {
        r.output_sha256: KeyUse(r.key_id, r.key_version, r.mapping, r.mapping_id) for r in receipts
    }


def _problem(leaf: Leaf, retained: frozenset[int]) -> str | None:
    group = leaf.tag >> 16
    if group & 1:
        return "private element"
    if group == 2:
        is_ours = leaf.tag != 0x00020012 or leaf.text() == IMPLEMENTATION_CLASS_UID
        if leaf.tag not in _META_TAGS or not is_ours:
            return "file meta"
    elif group < 8 or 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF:
        return "odd group"
    if leaf.vr == "UI" and leaf.tag not in retained:
        uids = (uid.strip(" \0") for uid in leaf.text().split("\\"))
        if any(uid and not _is_known(uid) for uid in uids):
            return "foreign UID"
    return None


def _is_known(uid: str) -> bool:
    return uid in UID_dictionary or uid == _DEFLATED_FRAMES or bool(_MAPPED.fullmatch(uid))


def _top(leaves: list[Leaf], tag: int) -> str:
    return next((leaf.text() for leaf in leaves if leaf.tag == tag and not leaf.depth), "")


def _facts(leaves: list[Leaf]) -> Facts:
    method = _METHOD.fullmatch(_top(leaves, 0x00120063))
    codes = {
        leaf.text()
        for leaf in leaves
        if leaf.tag == 0x00080100 and leaf.depth == 1 and leaf.text() in METHOD_MEANINGS
    }
    return Facts(
        patient=_top(leaves, 0x00100020),
        study=_top(leaves, 0x0020000D),
        series=_top(leaves, 0x0020000E),
        sop=_top(leaves, 0x00080018),
        profile=method[1] if method else "",
        codes=frozenset(codes),
        is_modified=_top(leaves, 0x00280303) == "MODIFIED",
    )


def _is_marked(leaves: list[Leaf], facts: Facts) -> bool:
    """PS3.15 E.1.1: removed, by which method, which codes; E.3.1: clean pixels say so."""
    is_clean = _top(leaves, 0x00280301) == "NO"
    return (
        _top(leaves, 0x00120062) == "YES"
        and bool(facts.profile)
        and "113100" in facts.codes
        and _top(leaves, 0x00280303) in ("REMOVED", "MODIFIED")
        and (is_clean or "113101" not in facts.codes)
    )
