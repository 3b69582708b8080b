"""Build `tables/iod_types.json` of the anonymizer: the type of every attribute of every IOD.

Source: the tables of PS3.3 that highdicom ships as JSON (MIT licence). highdicom is needed by
this tool only; give it the `_standard` folder of an unpacked wheel.

    python tools/build_iod.py <unpacked wheel>/highdicom/_standard --version 0.28.2

Equal macros are written once: a tree is a line of `TAG=TYPE` or `TAG=TYPE>TREE`, in ascending
order of tag, where TREE is the number of the tree inside the sequence's items.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom.datadict import tag_for_keyword

TABLE: Final = (
    Path(__file__).parents[1]
    / "anonymizer" / "pleura" / "anonymizer" / "tables" / "iod_types.json"
)  # fmt: skip
STRICTEST_FIRST: Final = ("1", "1C", "2", "2C", "3")
NOTICE: Final = (
    "Copyright 2020 MGH Computational Pathology. Permission is hereby granted, free of charge, to"
    " any person obtaining a copy of this software and associated documentation files (the"
    ' "Software"), to deal in the Software without restriction, including without limitation the'
    " rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of"
    " the Software, and to permit persons to whom the Software is furnished to do so, subject to"
    " the following conditions: The above copyright notice and this permission notice shall be"
    " included in all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED"
    ' "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE'
    " WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO"
    " EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER"
    " LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN"
    " CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."
)


@dataclass
class Node:
    """One attribute while the tree is built."""

    kind: str = "3"
    children: dict[int, Node] = field(default_factory=dict)


def tree_of(attributes: Sequence[Mapping[str, object]]) -> Node:
    """Return the attributes of one module as a tree; of two types the stricter counts.

    Keywords of repeating groups (overlays) have no single tag and are left out.
    """
    root = Node()
    for attribute in attributes:
        path, keyword = attribute["path"], attribute["keyword"]
        assert isinstance(path, list)
        tags = [tag_for_keyword(str(word)) for word in [*path, keyword]]
        if None in tags:
            continue
        node, is_new = root, False
        for tag in tags:
            is_new = tag not in node.children
            node = node.children.setdefault(int(str(tag)), Node())
        kind = str(attribute["type"])
        if kind in STRICTEST_FIRST:  # tables without types give None
            known = STRICTEST_FIRST.index
            node.kind = kind if is_new or known(kind) < known(node.kind) else node.kind
    return root


class Forest:
    """Trees that are written once however often they occur."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.numbers: dict[str, int] = {}

    def plant(self, node: Node) -> int:
        """Return the number of the tree below `node`."""
        parts = []
        for tag, child in sorted(node.children.items()):
            below = f">{self.plant(child)}" if child.children else ""
            parts.append(f"{tag:08X}={child.kind}{below}")
        line = " ".join(parts)
        if line not in self.numbers:
            self.numbers[line] = len(self.lines)
            self.lines.append(line)
        return self.numbers[line]


def build(folder: Path, version: str) -> str:
    """Return the text of the table made from the JSON files in `folder`."""

    def read(name: str) -> dict[str, Any]:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
        assert isinstance(found, dict)
        return found

    classes = read("sop_class_iod_map.json")
    modules_of = read("iod_module_map.json")
    iods = {name: modules_of[name] for name in sorted(set(classes.values()))}
    used = sorted({m["key"] for modules in iods.values() for m in modules})
    attributes = read("module_attribute_map.json")
    forest = Forest()
    table = {
        "source": f"PS3.3 module tables as shipped by highdicom {version} (MIT licence)",
        "notice": NOTICE,
        "sop_classes": dict(sorted(classes.items())),
        "iods": {n: {m["key"]: m["usage"] for m in ms} for n, ms in iods.items()},
        "modules": {name: forest.plant(tree_of(attributes.get(name, []))) for name in used},
        "trees": forest.lines,
    }
    return json.dumps(table, indent=0) + "\n"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version", required=True)
    chosen = parser.parse_args()
    TABLE.write_text(build(chosen.folder, chosen.version), encoding="utf-8")


if __name__ == "__main__":
    main()
