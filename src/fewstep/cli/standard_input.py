"""What comes from another program: `-` in the place of a prompt, or of a file of prompts."""

from __future__ import annotations

import sys
from pathlib import Path

from fewstep.errors import InvalidRequest

STDIN = Path("-")


def read_stdin(what: str) -> str:
    """All of standard input as text, without the white space around it; raises `InvalidRequest` where there is none."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InvalidRequest(f"- reads {what} from standard input, and that is a terminal: send it there by a pipe")
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{what} on standard input cannot be read as UTF-8: {error}") from error
    if not text:
        raise InvalidRequest(f"- reads {what} from standard input, and nothing came")
    return text
