"""Cleaning: walks a whole data set and applies one action to every element.

Every kept sequence is walked, listed in the table or not, to a depth of 32. The result is a
new tree; the input tree is not changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pleura.anonymizer.actions import (
    Context,
    by_representation,
    clean_text,
    dummy,
    has_lawful_vr,
    map_uids,
    shift,
    shift_pairs,
)
from pleura.anonymizer.content_items import tells_identity
from pleura.anonymizer.header import character_sets_of
from pleura.anonymizer.iod import AttributeType, attribute_type
from pleura.anonymizer.private import safe_private
from pleura.anonymizer.rules import Action, describe, is_misplaced
from pleura.anonymizer.wire import PIXEL_TAGS, Element, vr_of

MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an element is: character sets, the sequences around it; its type if a code asks."""

    sets: tuple[str, ...]
    path: tuple[int, ...]
    kind: AttributeType | None


def clean(
    elements: Sequence[Element],
    context: Context,
    *,
    character_sets: tuple[str, ...] = (),
    path: tuple[int, ...] = (),
) -> list[Element]:
    """Return the cleaned elements in ascending order of tag, each tag once.

    `path`: the tags of the sequences around the elements, outermost first.
    """
    own = character_sets_of(elements)
    sets = character_sets if own is None else own
    kept: dict[int, Element] = {}
    moments = shift_pairs(elements, context)
    decisions = context.rules.decisions(context.profile)
    is_encapsulated = any(e.is_encapsulated for e in elements if e.tag in PIXEL_TAGS)
    if context.profile.safe_private:
        kept |= {e.tag: e for e in safe_private(elements, context.seeds, sets)}
        context.tally.actions["kept"] += len(kept)
    for element in elements:
        tag = element.tag
        if tag in kept:
            continue
        is_open = tag in context.rules.compound
        kind = attribute_type(context.sop_class, path, tag) if is_open else None
        action = context.rules.decide(tag, element.vr, context.profile, decisions, kind)
        if is_misplaced(tag, path, is_encapsulated=is_encapsulated):
            action = "X"
        place = _Place(sets, path, kind)
        if action == "shift" and tag in moments:
            cleaned = _moved(element, moments[tag], place, context)
        else:
            cleaned = _apply(element, action, place, context)
        if cleaned is None:
            context.tally.removed[_removed_name(tag)] += 1
        else:
            kept[tag] = cleaned
    return [kept[tag] for tag in sorted(kept)]


def _moved(
    element: Element, moment: Element | None, place: _Place, context: Context
) -> Element | None:
    """Return a date or time that moved together with its partner; what is none goes."""
    if moment is None:
        context.tally.invalid_values += 1
        return _apply(element, _without_value(element.tag, place, context), place, context)
    context.tally.actions["shifted"] += 1
    return moment


def _without_value(tag: int, place: _Place, context: Context) -> Action:
    """Return the action on a value that cannot stay: the row's own, or removal."""
    return context.rules.basic(tag, place.kind) if tag in context.rules.rows else "X"


def _removed_name(tag: int) -> str:
    """Name a removed tag; private and unknown numbers are chosen by others, so not named."""
    if (tag >> 16) & 1:
        return "private"
    return describe(tag) if vr_of(tag) is not None or tag & 0xFFFF == 0 else "unknown"


def _apply(element: Element, action: Action, place: _Place, context: Context) -> Element | None:
    count, sets = context.tally.actions, place.sets
    if action == "shift":
        shifted = shift(element, context)
        if shifted is not None:
            count["shifted"] += 1
            return shifted
        action = _without_value(element.tag, place, context)
    if action == "C":
        cleaned = clean_text(element, sets, context, strict=True)
        if has_lawful_vr(element.tag, element.vr) and bytes(cleaned.value).strip(b" \0\\"):
            count["kept"] += 1
            return cleaned
        action = _without_value(element.tag, place, context)
    if action == "recurse" or (action == "vr" and element.vr == "SQ"):
        nested = _recurse(element, place, context)
        count["removed" if nested is None else "recursed"] += 1
        return nested
    if action == "X":
        count["removed"] += 1
        return None
    if action == "Z":
        count["emptied"] += 1
        is_sequence = element.items is not None
        return Element(element.tag, element.vr, items=[] if is_sequence else None)
    if action == "D":
        count["dummy"] += 1
        return dummy(element, context)
    if action == "U":
        count["uid_mapped"] += 1
        return map_uids(element, context) if element.items is None else None
    return _by_vr(element, sets, context, is_retained=action == "K")


def _by_vr(
    element: Element, sets: tuple[str, ...], context: Context, *, is_retained: bool
) -> Element | None:
    left = by_representation(element, sets, context, is_retained=is_retained)
    context.tally.actions["removed" if left is None else "kept"] += 1
    return left


def _recurse(element: Element, place: _Place, context: Context) -> Element | None:
    """Return the sequence with cleaned items; too deep or no sequence at all: None.

    A content item that says who somebody is goes, wherever it is (PS3.16 TID 1007).
    """
    if element.items is None or len(place.path) >= MAX_DEPTH or vr_of(element.tag) != "SQ":
        return None
    below = (*place.path, element.tag)
    items = [
        clean(item, context, character_sets=place.sets, path=below)
        for item in element.items
        if not tells_identity(item)
    ]
    return Element(element.tag, "SQ", items=items)
