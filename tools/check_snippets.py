"""Run the code blocks of README.md and docs/ as they are printed.

Each page has its own empty directory, and its blocks run there in order:

- `python` runs as a script;
- `console` runs every line that begins with `$ `; other lines are output;
- `toml` must parse;
- `text` and `mermaid` are for readers only; another language is a mistake.

A comment on the line before a block directs it: `<!-- snippet: bench.toml -->`
also saves the block under that name for the blocks after it, and
`<!-- snippet: in the checkout -->` runs it at the root of the repository.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

from tools import ROOT

LIMIT_S = 120.0
OUTPUT_LINES = 40

FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)")
DIRECTION = re.compile(r"\s*<!-- snippet: (?P<text>.+?) -->\s*")
CHECKOUT = "in the checkout"
SHOWN_ONLY = frozenset({"text", "mermaid"})


@frozen
class Snippet:
    """One fenced block: where it begins, its language, its text, its direction."""

    line: int
    language: str
    text: str = field(repr=False)
    direction: str | None = None


class SnippetError(Exception):
    """A block does not do what the page claims."""


def main(root: Path = ROOT) -> int:
    """Run the blocks of every page; return 1 if one fails, else 0."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    failures = 0
    for page in pages:
        with tempfile.TemporaryDirectory(prefix="snippets-") as directory:
            for snippet in snippets(page.read_text(encoding="utf-8")):
                where = f"{page.relative_to(root)}:{snippet.line}: {snippet.language or 'block'}"
                begun_s = time.monotonic()
                try:
                    run(snippet, Path(directory), root)
                except SnippetError as error:
                    failures += 1
                    print(f"{where}: FAILED: {error}", flush=True)
                else:
                    print(f"{where}: ok, {time.monotonic() - begun_s:.1f} s", flush=True)
    return 1 if failures else 0


def snippets(page: str) -> Iterator[Snippet]:
    """Yield the fenced blocks of a Markdown page; an unclosed one ends with the page."""
    lines = iter(enumerate(page.splitlines(), start=1))
    direction: str | None = None
    for number, line in lines:
        if fence := FENCE.match(line):
            indent = len(fence["indent"])
            body: list[str] = []
            for _, inner in lines:
                if inner.strip().startswith(fence["ticks"]):
                    break
                body.append(inner[indent:])
            yield Snippet(number, fence["language"], "\n".join(body) + "\n", direction)
            direction = None
        elif found := DIRECTION.fullmatch(line):
            direction = found["text"]
        elif line.strip():
            direction = None


def run(snippet: Snippet, directory: Path, root: Path, limit_s: float = LIMIT_S) -> None:
    """Run one block in its page's directory.

    Raises:
        SnippetError: It fails, takes longer than `limit_s` seconds, does not
            parse, or has a language that is not run.
    """
    in_checkout = snippet.direction == CHECKOUT
    name = f"line_{snippet.line}.py"
    if snippet.direction is not None and not in_checkout:
        name = snippet.direction
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(snippet.text, encoding="utf-8")
    cwd = root if in_checkout else directory
    match snippet.language:
        case "python":
            script = directory / name
            script.write_text(snippet.text, encoding="utf-8")
            _execute([sys.executable, str(script)], cwd, directory, root, limit_s)
        case "console":
            shell = ["bash", "-euo", "pipefail", "-c", "\n".join(_commands(snippet.text))]
            _execute(shell, cwd, directory, root, limit_s)
        case "toml":
            try:
                tomllib.loads(snippet.text)
            except tomllib.TOMLDecodeError as error:
                raise SnippetError(str(error)) from error
        case language if language not in SHOWN_ONLY:
            raise SnippetError("only python, console, toml, text and mermaid blocks are known")
        case _:
            pass


def _commands(text: str) -> list[str]:
    commands: list[str] = []
    continued = False
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(line.removeprefix("$ "))
        elif continued:
            commands.append(line)
        else:
            continue
        continued = line.endswith("\\")
    if not commands:
        raise SnippetError("no line begins with `$ `")
    return commands


def _execute(command: list[str], cwd: Path, directory: Path, root: Path, limit_s: float) -> None:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        "PYTHONPATH": os.pathsep.join((str(directory), str(root))),
    }
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        # The block may have left children that hold the pipe: the whole session goes.
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise SnippetError(f"still running after {limit_s:g} s{_tail(output)}") from error
    if process.returncode != 0:
        raise SnippetError(f"exit status {process.returncode}{_tail(output)}")


def _tail(output: str) -> str:
    return "".join(f"\n    {line}" for line in output.splitlines()[-OUTPUT_LINES:])


if __name__ == "__main__":
    sys.exit(main())
