"""The command blocks of a Markdown document, as its reader runs them: in order, in one folder.

A block that takes long is shortened by comments before it, which the reader does not see:

    <!-- shortened in tests: -n 2000 => -n 4 -->

Each names words of the block, and what stands in their place. Where a document names what its reader has (a Stable
Diffusion, photographs), a miniature of it lies in the folder.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHORTENED = re.compile(r"<!-- shortened in tests: (.+?) => (.+?) -->")
FENCE = re.compile(r"```(\w*)")
RUN = ("sh", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the number of its first line, and its text as tests run it."""

    language: str
    line: int
    text: str

    @property
    def commands(self) -> list[str]:
        """Of a shell's block: without comments, what goes on in the next line joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if shlex.split(line, comments=True)]

    @property
    def file(self) -> str | None:
        """The name of the file that it is the content of, where its first line says so: `# my_run.py`."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# ") if re.fullmatch(r"# \w+\.py", first) else None


def blocks(path: Path) -> Iterator[Block]:
    """All fenced blocks; raises ValueError for a shortening that changes nothing."""
    marks: list[tuple[str, str]] = []
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if mark := SHORTENED.fullmatch(line):
            marks.append((mark[1], mark[2]))
        elif fence := FENCE.fullmatch(line):
            text = "\n".join(_inside(lines))
            for long, short in marks:
                if long not in text:
                    raise ValueError(f"{path}, line {number}: nothing there to be shortened is {long!r}")
                text = text.replace(long, short)
            marks = []
            yield Block(fence[1], number + 1, text)
        elif marks:
            raise ValueError(f"{path}, line {number}: a shortening stands before no block")


def _inside(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    for _, line in lines:
        if line == "```":
            return
        yield line
