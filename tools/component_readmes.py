"""What a component's README and metadata.yaml say twice, taken from where it is said first.

    python -m tools.component_readmes            rewrites what is out of date
    python -m tools.component_readmes --check    names it, and ends with status 1

The table of inputs and outputs comes from the signature and docstring in component.py, the versions of packages from
requirements/main.txt. The rest of both files is written by hand.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- made by tools/component_readmes.py from component.py -->"
END = "<!-- end -->"


def main(argv: list[str]) -> int:
    check = argv == ["--check"]
    if argv and not check:
        print(f"unknown: {' '.join(argv)}; nothing, or --check", file=sys.stderr)
        return 2
    stale = list(out_of_date(ROOT))
    for path, text in stale:
        print(path.relative_to(ROOT), "is out of date" if check else "written")
        if not check:
            path.write_text(text)
    return 1 if check and stale else 0


def out_of_date(root: Path) -> Iterator[tuple[Path, str]]:
    """Each file that is not as its sources say, with the text it should have.

    Raises
    ------
    ValueError
        a component or one of its files cannot be read; names it and what is missing.
    """
    pins = dict(re.findall(r"^([a-z0-9-]+)(?:\[\S+?\])?==(\S+)", (root / "requirements/main.txt").read_text(), re.M))
    for folder in sorted(path.parent for path in (root / "components").glob("*/component.py")):
        for path, text in (
            (folder / "README.md", _readme(folder / "README.md", _tables(folder / "component.py"))),
            (folder / "metadata.yaml", _metadata(folder / "metadata.yaml", pins)),
        ):
            if text != path.read_text():
                yield path, text


def _readme(path: Path, tables: str) -> str:
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path}: needs one line {BEGIN!r} and one line {END!r}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables}{END}{rest.split(END)[1]}"


def _metadata(path: Path, pins: dict[str, str]) -> str:
    """The lines below ``packages:`` with the locked version of each."""
    lines, inside = [], False
    for line in path.read_text().splitlines():
        if inside and line.startswith("    "):
            name = line.split(":")[0].strip()
            if name not in pins:
                raise ValueError(f"{path}: {name} is not locked in requirements/main.txt")
            line = f'    {name}: "{pins[name]}"'
        inside = line == "  packages:" or (inside and line.startswith("    "))
        lines.append(line)
    return "\n".join(lines) + "\n"


def _tables(path: Path) -> str:
    (function,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    meanings, returned = _docstring(ast.get_docstring(function) or "")
    rows: dict[str, list[tuple[str, str, str]]] = {"input": [], "output": []}
    for argument in function.args.args:
        kind, side = _kind(argument.annotation)
        if argument.arg not in meanings:
            raise ValueError(f"{path}: the docstring's Args do not name {argument.arg!r}")
        rows[side].append((argument.arg, kind, meanings[argument.arg]))
    rows["output"] = [*_returns(path, function.returns, returned), *rows["output"]]
    return "\n".join(_table(side, found) for side, found in rows.items() if found)


def _kind(annotation: ast.expr | None) -> tuple[str, str]:
    """What the type is called in the table, and whether it goes in or out."""
    text = ast.unparse(annotation) if annotation else ""
    artifact = re.fullmatch(r"dsl\.(Input|Output)\[dsl\.(\w+)\]", text)
    if artifact:
        return f"{artifact[2]} artifact", artifact[1].lower()
    return text, "input"


def _returns(path: Path, annotation: ast.expr | None, text: str) -> list[tuple[str, str, str]]:
    """One output, or those of a NamedTuple, whose meanings the docstring separates by semicolons."""
    if annotation is None:
        return []
    if not isinstance(annotation, ast.Call):
        return [("Output", ast.unparse(annotation), text)]
    fields = [(field.elts[0].value, ast.unparse(field.elts[1])) for field in annotation.args[1].elts]  # type: ignore[attr-defined]
    parts = text.rstrip(".").split("; ")
    if len(parts) != len(fields):
        raise ValueError(f"{path}: {len(fields)} outputs, but Returns names {len(parts)}, separated by semicolons")
    return [(name, kind, f"{part[0].upper()}{part[1:]}.") for (name, kind), part in zip(fields, parts, strict=True)]


def _docstring(text: str) -> tuple[dict[str, str], str]:
    """Args and Returns of a docstring in Google's style, each as one line."""
    sections = dict(re.findall(r"^(Args|Returns):\n((?:    .*\n?|\n)+)", text, re.M))
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", sections.get("Args", ""), re.M)
    return {name: _line(meaning) for name, meaning in entries}, _line(sections.get("Returns", ""))


def _line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _table(side: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| {side} | type | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in rows)]) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
