"""Completing: what an object's definition wants and the rules took is put back without a value.

PS3.15 E.1.1 asks for a valid object: a type 1 attribute that had a value gets a dummy, a type 2
attribute that was there is left empty. Nothing is added that the input did not have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pleura.anonymizer.actions import Context, dictionary_vr, dummy
from pleura.anonymizer.content_items import without_identity
from pleura.anonymizer.errors import IodBroken
from pleura.anonymizer.iod import attribute_type, missing_required
from pleura.anonymizer.rules import describe
from pleura.anonymizer.wire import PIXEL_TAGS, Element

# SOP, study and series; the image pixel module (PS3.3 C.7.6.3): a dummy would be a lie.
_ESSENTIAL: Final = frozenset(
    {0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00280002, 0x00280004, 0x00280010}
    | {0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103}
    | PIXEL_TAGS
)
# A measure nobody made is worse than none: an invented number is no dummy.
_MEASURES: Final = frozenset({"DS", "IS", "FL", "FD", "US", "SS", "UL", "SL", "UV", "SV"})
# Burned-in text and visible features: as long as nobody looked, the answer is yes.
_UNREAD: Final = frozenset({0x00280301, 0x00280302})


def complete(
    sop_class: str, before: Sequence[Element], after: Sequence[Element], context: Context
) -> list[Element]:
    """Return `after` with dummies and empty values where its definition wants an attribute.

    Raises:
        IodBroken: an attribute without which the object means nothing got lost, or one that
            has no dummy.
    """
    _check_essentials(before, after)
    before = without_identity(before)
    missing = missing_required(sop_class, before, after)
    if not missing:
        return list(after)
    completed = _completed(sop_class, before, after, context, missing, ())
    lost = missing_required(sop_class, before, completed)
    if lost:
        raise IodBroken(f"{describe(lost[0][1])} would be lost", counts={"lost": len(lost)})
    return completed


def _check_essentials(before: Sequence[Element], after: Sequence[Element]) -> None:
    filled = {e.tag for e in before if len(e.value)} & _ESSENTIAL
    lost = filled - {e.tag for e in after if len(e.value)}
    if lost:
        raise IodBroken(f"{describe(min(lost))} would be lost", counts={"lost": len(lost)})


def _completed(
    sop_class: str,
    before: Sequence[Element],
    after: Sequence[Element],
    context: Context,
    missing: Iterable[tuple[tuple[int, ...], int]],
    path: tuple[int, ...],
) -> list[Element]:
    """Return one data set or item completed; items are compared in order."""
    old = {e.tag: e for e in reversed(before)}
    new = {e.tag: e for e in after}
    below: dict[int, list[tuple[tuple[int, ...], int]]] = defaultdict(list)
    for where, tag in missing:
        if where != path:
            below[where[len(path)]].append((where, tag))
        elif tag in old and not _is_filled(new.get(tag)):
            new[tag] = _stand_in(sop_class, path, old[tag], new, context)
    for tag, inside in below.items():
        if tag in new and tag in old and new[tag].items:
            pairs = _paired(old[tag].items or [], new[tag].items or [])
            items = [
                _completed(sop_class, was, now, context, inside, (*path, tag)) if was else now
                for was, now in pairs
            ]
            new[tag] = Element(tag, "SQ", items=items)
    return [new[tag] for tag in sorted(new)]


def _paired(
    before: list[list[Element]], after: list[list[Element]]
) -> list[tuple[list[Element], list[Element]]]:
    return [(before[i] if i < len(before) else [], now) for i, now in enumerate(after)]


def _is_filled(element: Element | None) -> bool:
    return element is not None and bool(element.items or len(element.value))


def _stand_in(
    sop_class: str,
    path: tuple[int, ...],
    element: Element,
    left: Mapping[int, Element],
    context: Context,
) -> Element:
    """Return a dummy for type 1, an empty value for type 2.

    Raises:
        IodBroken: a number is wanted.
    """
    tag, vr = element.tag, dictionary_vr(element.tag)
    kind = attribute_type(sop_class, path, tag) or "2"
    if kind.startswith("1") and vr in _MEASURES:
        raise IodBroken(f"{describe(tag)} would be lost", counts={"lost": 1})
    if tag in left and kind.startswith("2"):
        return left[tag]
    context.tally.actions["dummy" if kind.startswith("1") else "emptied"] += 1
    if not kind.startswith("1"):
        return Element(tag, vr, items=[] if vr == "SQ" else None)
    return Element(tag, "CS", b"YES") if tag in _UNREAD else dummy(element, context)
