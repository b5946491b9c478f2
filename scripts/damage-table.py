#!/usr/bin/python3
"""Makes one table of what became of each damage: damage-table.py FOLDER FILE

FOLDER holds what `every_damage` of the platform's tests has written, a line for each damage: the part, the
kind, the name, and what became of it, with tabs between. FILE is written in Markdown: parts by kinds, then
those that were damaged two at once.
"""

import collections
import pathlib
import sys

KINDS = ["stopped", "data gone", "data garbage", "configuration broken", "name gone", "access lost"]
PAIRS = "two at once"


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(folder: str, file: str) -> None:
    lines = []
    for part in sorted(pathlib.Path(folder).glob("*.tsv")):
        lines += [line.split("\t") for line in part.read_text().splitlines()]
    if not lines:
        return
    cells = collections.defaultdict(list)
    pairs = []
    for part, kind, name, ended in lines:
        if part == PAIRS:
            pairs.append([name, ended])
            continue
        # How, where one part was damaged in one way twice.
        how = name.removeprefix(f"{part}: {kind}").strip(" ()")
        cells[part, kind].append(f"{how}: {ended}" if how else ended)
    out = [row(["part", *KINDS]), "|---" * (len(KINDS) + 1) + "|"]
    for part in dict.fromkeys(part for part, _ in cells):
        out.append(row([part, *("; ".join(cells.get((part, kind), ["–"])) for kind in KINDS)]))
    if pairs:
        out += ["", row(["two at once", "what became of them"]), "|---|---|", *map(row, sorted(pairs))]
    pathlib.Path(file).write_text("\n".join(out) + "\n")
    tried = [ended for *_, ended in lines]
    print(f"\n{len(tried)} damages, {tried.count('FAILED')} failed: {file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
