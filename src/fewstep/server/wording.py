"""What is wrong with a message, in one line that helps."""

from __future__ import annotations

from pydantic import ValidationError


def in_words(error: ValidationError) -> str:
    """What pydantic found, in one line: `steps: Input should be less than or equal to 50 (given: 99)`."""
    parts = []
    for each in error.errors(include_url=False, include_context=False)[:5]:
        given = repr(each["input"])
        place = ".".join(str(name) for name in each["loc"]) or "the message"
        parts.append(f"{place}: {each['msg']} (given: {given if len(given) <= 60 else given[:57] + '...'})")
    return "; ".join(parts)
