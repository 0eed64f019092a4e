"""Check what imports may not do and import-linter cannot say.

Every import statement counts, those under `TYPE_CHECKING` and inside functions
included. Two rules:

- a package enters another one through a package (an `__init__.py`), never
  through one of its modules;
- a pure file, with all it imports from its own package, imports nothing that
  could reach a clock, a device or Trio.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from tools import PACKAGES, ROOT

PURE_FILES = (
    "transports/framing.py",
    "transports/line_state.py",
    "transports/profile.py",
    "transports/pyrpl/desk.py",
    "actors/breaker.py",
    "actors/command.py",
    "actors/faults.py",
    "actors/journal.py",
    "actors/lease.py",
    "actors/restart.py",
    "actors/validation.py",
    "actors/wear.py",
    "actors/instruments/**/frames.py",
    "actors/instruments/**/blocks.py",
    "actors/instruments/**/model*.py",
    "actors/instruments/**/models/*.py",
)

# Of `io` pure files may use the buffers; its `open` has a name that the check below finds.
PURE_IMPORTS = frozenset({
    "__future__", "abc", "attrs", "binascii", "bisect", "cmath", "collections", "contextlib",
    "copy", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools",
    "json", "math", "numpy", "operator", "random", "re", "statistics", "string", "struct", "types",
    "typing", "zlib",
})  # fmt: skip

IMPURE_CALLS = frozenset({"open", "input", "print", "__import__"})


@frozen
class Import:
    """One name brought in: the dotted target and the line that does it."""

    target: str
    line: int

    @property
    def top(self) -> str:
        """The outermost package of the target."""
        return self.target.partition(".")[0]


def main(root: Path = ROOT) -> int:
    """Print every broken rule below `root`; return 1 if there is one, else 0."""
    complaints = sorted({*crossings(root), *impurities(root)})
    for complaint in complaints:
        print(complaint)
    print(f"imports: {len(complaints)} broken" if complaints else "imports: all kept")
    return 1 if complaints else 0


def crossings(root: Path) -> Iterator[str]:
    """Yield each import that enters another package through one of its modules."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for found in imports(path, root):
                foreign = found.top in PACKAGES and found.top != package
                if foreign and _file_of(found.target, root).is_file():
                    door = found.target.rpartition(".")[0]
                    where = f"{path.relative_to(root)}:{found.line}"
                    yield f"{where}: enters {found.target}; import what it needs from {door}"


def impurities(root: Path) -> Iterator[str]:
    """Yield each import or call that makes a pure file impure, and each missing pure file."""
    for pattern in PURE_FILES:
        paths = sorted(root.glob(pattern))
        if not paths and "*" not in pattern:
            yield f"{pattern}: listed as pure in {Path(__file__).name}, but it is not there"
        for path in paths:
            yield from _impurities_of(path, root)


def imports(path: Path, root: Path) -> Iterator[Import]:
    """Yield what the file at `path` imports, relative imports made absolute.

    `from a import b` counts as `a.b` where that is a module or a package, else as `a`: also
    where `a` exports a name that one of its modules has too.
    """
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*anchor, *filter(None, [node.module])))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                is_module = _exists(inner, root) and alias.name not in _exports(base, root)
                yield Import(inner if is_module else base, node.lineno)


def _impurities_of(path: Path, root: Path) -> Iterator[str]:
    seen: set[Path] = set()
    waiting = [(path, "")]
    while waiting:
        current, via = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        name = current.relative_to(root)
        for found in imports(current, root):
            module = _file_of(found.target, root)
            if found.top == name.parts[0] and module.is_file():
                waiting.append((module, f"{via}, imported by {name}:{found.line}"))
            elif found.top not in PURE_IMPORTS and found.top not in PACKAGES:
                yield f"{name}:{found.line}: a pure file imports {found.target}{via}"
        for node in ast.walk(ast.parse(current.read_bytes(), str(current))):
            if isinstance(node, ast.Call) and (called := _called(node.func)) in IMPURE_CALLS:
                yield f"{name}:{node.lineno}: a pure file calls {called}{via}"


def _called(function: ast.expr) -> str | None:
    """Return the name of what is called; of a module's functions those of `io` only."""
    match function:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id="io"), attr=name):
            return name
        case _:
            return None


def _exports(package: str, root: Path) -> set[str]:
    """Return the names that a package's `__init__` imports from its modules."""
    door = root.joinpath(*package.split("."), "__init__.py")
    if not door.is_file():
        return set()
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(door.read_bytes(), str(door)))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _file_of(module: str, root: Path) -> Path:
    return root.joinpath(*module.split(".")).with_suffix(".py")


def _exists(module: str, root: Path) -> bool:
    return _file_of(module, root).is_file() or root.joinpath(*module.split(".")).is_dir()


if __name__ == "__main__":
    sys.exit(main())
