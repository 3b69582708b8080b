"""Object definitions: which type PS3.3 gives an attribute in an object of one SOP class.

The table is data (`tables/iod_types.json`, made by `tools/build_iod.py`); this module looks
things up in it and compares two trees. It knows nothing of profiles or actions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, Literal, cast

from pydantic import BaseModel, ValidationError

from pleura.anonymizer.errors import RulesDamaged
from pleura.anonymizer.wire import Element

AttributeType = Literal["1", "1C", "2", "2C", "3"]
"""PS3.5 7.4: 1 must have a value, 2 must be there, C only under a condition, 3 is optional."""

_STRICTEST_FIRST: Final[tuple[AttributeType, ...]] = ("1", "1C", "2", "2C", "3")
_NONE: Final[frozenset[int]] = frozenset()
# A module that is not mandatory may be left out whole, so its attributes are conditional.
_IF_PRESENT: Final[Mapping[AttributeType, AttributeType]] = {"1": "1C", "2": "2C"}


class IodTypes(BaseModel, frozen=True, extra="forbid"):
    """`tables/iod_types.json`."""

    source: str
    notice: str
    sop_classes: dict[str, str]
    iods: dict[str, dict[str, Literal["M", "C", "U"]]]
    modules: dict[str, int]
    trees: list[str]


@dataclass(slots=True)
class _Node:
    """Attributes of one data set or item: type, and what a sequence's items hold."""

    types: dict[int, AttributeType] = field(default_factory=dict)
    inner: dict[int, _Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Needs:
    """What one data set or item must not lose; `inner` only where something is needed."""

    filled: frozenset[int]
    present: frozenset[int]
    never_empty: frozenset[int]
    inner: Mapping[int, _Needs]


@dataclass(frozen=True, slots=True)
class _Module:
    """Needs of a module that may be left out; `evidence` are tags no other module has."""

    evidence: frozenset[int]
    filled: frozenset[int]
    present: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Definition:
    root: _Node
    needs: _Needs
    optional: tuple[_Module, ...]


@cache
def load_types() -> IodTypes:
    """Read the shipped table once.

    Raises:
        RulesDamaged: the table is missing or has another shape.
    """
    try:
        raw = (files("pleura.anonymizer") / "tables" / "iod_types.json").read_bytes()
        return IodTypes.model_validate(json.loads(raw))
    except (OSError, ValueError, ValidationError) as exc:
        raise RulesDamaged(type(exc).__name__) from None


@lru_cache(maxsize=65536)
def attribute_type(sop_class: str, path: tuple[int, ...], tag: int) -> AttributeType | None:
    """Return the strictest type the attribute has in objects of the class.

    `path` are the tags of the sequences around it, outermost first. Top-level attributes of a
    conditional or optional module are at most 1C or 2C: the module may be left out. An attribute
    the definition does not have is of type 3. None: nobody knows, since the table has not got the
    class or the items of that sequence (functional groups are no part of it).

    Raises:
        RulesDamaged: the table is missing or damaged.
    """
    definition = _definition(sop_class)
    if definition is None:
        return None
    node = definition.root
    for step in path:
        inner = node.inner.get(step)
        if inner is None:
            return None
        node = inner
    return node.types.get(tag, "3")


def missing_required(
    sop_class: str, before: Sequence[Element], after: Sequence[Element]
) -> list[tuple[tuple[int, ...], int]]:
    """Return path and tag of what `after` lacks that the definition wants and `before` had.

    That is a type 1 attribute that had a value and has none, a type 1C attribute that had one
    and is empty, or a type 2 attribute that was there and is gone: in mandatory modules, in other
    modules of which something is left, and in the items of every sequence that is left. Nothing
    for a class the table has not got.

    Raises:
        RulesDamaged: the table is missing or damaged.
    """
    definition = _definition(sop_class)
    if definition is None:
        return []
    old = {e.tag: e for e in before}
    new = {e.tag: e for e in after}
    needs = definition.needs
    lost = {((), tag) for tag in _lost(needs.filled, needs.present, needs.never_empty, old, new)}
    for module in definition.optional:
        if not module.evidence.isdisjoint(new):
            lost |= {((), tag) for tag in _lost(module.filled, module.present, _NONE, old, new)}
    return sorted({*lost, *_lost_inside(definition.needs, old, new, ())})


def _lost(
    filled: frozenset[int],
    present: frozenset[int],
    never_empty: frozenset[int],
    old: Mapping[int, Element],
    new: Mapping[int, Element],
) -> Iterator[int]:
    for tag in filled:
        if tag in old and _has_value(old[tag]) and not (tag in new and _has_value(new[tag])):
            yield tag
    for tag in present:
        if tag in old and tag not in new:
            yield tag
    for tag in never_empty & new.keys():
        if not _has_value(new[tag]) and tag in old and _has_value(old[tag]):
            yield tag


def _has_value(element: Element) -> bool:
    return bool(element.items) if element.items is not None else len(element.value) > 0


def _lost_inside(
    needs: _Needs, old: Mapping[int, Element], new: Mapping[int, Element], path: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield what items lost; items are compared in order, a removed sequence has none."""
    for tag, inner in needs.inner.items():
        left = new.get(tag)
        if left is None or not left.items or tag not in old:
            continue
        below = (*path, tag)
        for was, now in zip(old[tag].items or (), left.items, strict=False):
            olds, news = {e.tag: e for e in was}, {e.tag: e for e in now}
            for gone in _lost(inner.filled, inner.present, inner.never_empty, olds, news):
                yield below, gone
            yield from _lost_inside(inner, olds, news, below)


@lru_cache(maxsize=256)
def _definition(sop_class: str) -> _Definition | None:
    """Return the compiled definition of a storage class, or None if the table has it not."""
    table = load_types()
    iod = table.sop_classes.get(sop_class)
    if iod is None:
        return None
    root, seen = _Node(), dict[int, int]()
    for module, usage in table.iods[iod].items():
        tree = _tree(table.modules[module])
        for tag in tree.types:
            seen[tag] = seen.get(tag, 0) + 1
        _merge(root, tree, is_mandatory=usage == "M")
    return _Definition(root, _needs(root), tuple(_optional(iod, seen)))


def _optional(iod: str, seen: Mapping[int, int]) -> Iterator[_Module]:
    table = load_types()
    for module, usage in table.iods[iod].items():
        types = _tree(table.modules[module]).types
        found = _Module(
            evidence=frozenset(tag for tag in types if seen[tag] == 1),
            filled=frozenset(tag for tag, kind in types.items() if kind == "1"),
            present=frozenset(tag for tag, kind in types.items() if kind == "2"),
        )
        if usage != "M" and (found.filled or found.present):
            yield found


@cache
def _tree(number: int) -> _Node:
    """Return one tree of the table; equal trees are one object, never changed."""
    node = _Node()
    for part in load_types().trees[number].split():
        name, _, rest = part.partition("=")
        kind, _, below = rest.partition(">")
        tag = int(name, 16)
        node.types[tag] = cast(AttributeType, kind)
        if below:
            node.inner[tag] = _tree(int(below))
    return node


def _merge(into: _Node, tree: _Node, *, is_mandatory: bool) -> None:
    """Add a module to a definition; of two types the stricter counts."""
    for tag, kind in tree.types.items():
        offered = kind if is_mandatory else _IF_PRESENT.get(kind, kind)
        known = into.types.get(tag, "3")
        into.types[tag] = min(offered, known, key=_STRICTEST_FIRST.index)
    for tag, inner in tree.inner.items():
        own = into.inner.get(tag)
        if own is None:
            into.inner[tag] = inner
        elif own is not inner:
            into.inner[tag] = _joined(own, inner)


def _joined(first: _Node, second: _Node) -> _Node:
    joined = _Node(dict(first.types), dict(first.inner))
    _merge(joined, second, is_mandatory=True)  # inside an item no module is left out
    return joined


def _needs(node: _Node) -> _Needs:
    inner = {tag: _needs_of_tree(child) for tag, child in node.inner.items()}
    return _Needs(
        filled=frozenset(tag for tag, kind in node.types.items() if kind == "1"),
        present=frozenset(tag for tag, kind in node.types.items() if kind == "2"),
        never_empty=frozenset(tag for tag, kind in node.types.items() if kind == "1C"),
        inner={
            tag: n for tag, n in inner.items() if n.filled or n.present or n.never_empty or n.inner
        },
    )


_COMPILED: Final[dict[int, tuple[_Node, _Needs]]] = {}


def _needs_of_tree(node: _Node) -> _Needs:
    """Return the needs of a node, compiled once: macros are shared by many sequences."""
    known = _COMPILED.get(id(node))
    if known is None or known[0] is not node:
        known = _COMPILED[id(node)] = (node, _needs(node))
    return known[1]
