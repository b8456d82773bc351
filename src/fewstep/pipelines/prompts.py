"""What people write into prompts, read once, at the door: adapters by name, what only other programs do, and words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from fewstep.errors import InvalidRequest
from fewstep.models.text.prompt_weights import escaped, literal, pairs

MOST_SHOWN = 60  # letters of what a message quotes
_NEAR = 80  # letters around an AND in which its neighbours are looked for


@dataclass(frozen=True)
class Policy:
    """What a door does with what cannot be honoured: refuse it by name, or go on and say so."""

    refuses_foreign: bool
    refuses_adapters: bool


STRICT = Policy(refuses_foreign=True, refuses_adapters=True)  # the command line and Python
A1111 = Policy(refuses_foreign=True, refuses_adapters=False)
LIVE = Policy(refuses_foreign=False, refuses_adapters=False)  # half a prompt must not stop the picture


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is sampled.

    text    words, with the marks that `prompt_weights.parse` reads and no others
    loras   how much of which adapters it names
    advice  what could not be honoured, a sentence each
    """

    text: str
    loras: Mapping[str, float] = field(default_factory=dict)
    advice: tuple[str, ...] = ()


# What other programs do with a prompt. Where it begins, how a message calls it.
_FOREIGN = (
    (r"<\s*[A-Za-z]\w*(?:\[[^\[\]<>]*\])?\s*:[^<>]*>", "a tag of another program"),
    (r"(?<!_)__(?!_)[\w./*~-]+?__(?!_)", "a wildcard, which stands for a line of a file"),
    (r"\bAND(?:_[A-Z]+)?\b", "a mixture of several prompts"),
    (r"\{[^{}]*\|[^{}]*\}", "a choice between words"),
    (r"\b(?:ADDCOMM|ADDBASE|ADDROW|ADDCOL)\b", "a prompt for each part of the picture"),
    (r"\bembedding:\s*[\w./-]+", "ComfyUI's way to name an embedding"),
    (r"(?<=\w)::\s?-?\d[\d.]*(?![\d.\s]*\])", "Midjourney's way to weigh words"),
    (r"(?<![^\s\\])--(?:[a-z]+\s+\d[\d.:]*(?!\w)|(?:no|n)\s+\S+|(?:niji|tile)\b)", "an option of another program"),
)
_CHANGES = re.compile(r"(?<!\\):\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*$")
_ALTERNATES = re.compile(r"(?<!\\)\|")
_ADAPTER = re.compile(r"<\s*(lora|lyco|hypernet)\s*:([^<>]*)>", re.IGNORECASE)
_UNFINISHED = re.compile(r"<\s*(?:lora|lyco|hypernet)(?::[^<>\s,]*|$)", re.IGNORECASE)
_PLACES = [(re.compile(pattern), what) for pattern, what in _FOREIGN]


def understood(
    prompt: str, policy: Policy = STRICT, here: Collection[str] | None = None, *, negative: bool = False
) -> Prompt:
    """A prompt as people write it.

    <lora:NAME:0.8>         so much of that adapter (1 where no number is given); also written <lyco:…>
    [a:b:0.5], [a|b], AND, __wildcard__, and the like
                            are other programs' and not done here: refused by name, or said
    \\\\ before any of them   makes words of it, which are sampled

    here      the names of the adapters that are loaded; None where that is not known yet, and `plan.complete` refuses
              the others
    negative  whether it is a negative prompt, where adapters mean nothing

    What is no text, or too long, is left for `Request` to refuse. Raises `InvalidRequest`.
    """
    reading = _Reading(prompt, policy, here, negative)
    if isinstance(prompt, str) and any(sign in prompt for sign in "<[{_:-AD\\"):
        reading.read()
    return Prompt(reading.text, reading.loras, tuple(reading.advice.values()))


def written(text: str) -> str:
    """The prompt that `understood` reads as this text: with a backslash before what would be refused, or taken out."""
    while places := _Reading(text, LIVE, None, negative=False).found():
        first = min(places)
        text = f"{text[:first]}\\{text[first:]}"
    return text


class _Reading:
    """A prompt while it is read, from its start to its end."""

    def __init__(self, prompt: str, policy: Policy, here: Collection[str] | None, negative: bool) -> None:
        self.prompt, self.policy, self.here, self.negative = prompt, policy, here, negative
        self.text, self.loras, self.advice = prompt, dict[str, float](), dict[str, str]()
        self.places: list[int] = []  # where a backslash would make words of what was found
        self.closing: dict[int, int] = {}  # brackets and parentheses that have a partner

    def found(self) -> list[int]:
        self.read()
        return self.places

    def read(self) -> None:
        prompt, done = self.prompt, 0
        self.closing = {start: close for start, (close, _, _) in pairs(prompt).items()}
        parts: list[str] = []
        place = 0
        while place < len(prompt):
            if letters := escaped(prompt, place):  # stays: `prompt_weights` reads it
                place += 1 + len(letters)
            elif prompt[place] == "\\" and (end := self._escape(place + 1)):
                parts += [prompt[done:place], literal(prompt[place + 1 : end])]
                done = place = end
            elif tag := _ADAPTER.match(prompt, place) or _UNFINISHED.match(prompt, place):
                parts.append(prompt[done:place])
                self.places.append(place)
                self._adapter(tag)
                done = place = tag.end()
                if parts[-1][-1:].strip() and prompt[done : done + 1].strip():
                    parts.append(" ")  # what it parted is not one word
            else:
                self._look(place)
                place += 1
        self.text = "".join([*parts, prompt[done:]]).strip()

    def _escape(self, place: int) -> int:
        """Where that ends which a backslash before `place` makes words of; 0 where it is a letter itself."""
        if self.prompt[place : place + 1] in ("|", ":"):
            return place + 1
        for pattern in (_ADAPTER, _UNFINISHED, *(pattern for pattern, _ in _PLACES)):
            if found := pattern.match(self.prompt, place):
                return found.end()
        return 0

    def _look(self, place: int) -> None:
        """For what other programs do, and begins here."""
        if self.prompt[place] == "[" and (close := self.closing.get(place)) is not None:
            direct = self._direct(place, close)
            inside = "".join(self.prompt[each] for each in direct)
            if sign := _CHANGES.search(inside):
                self._foreign(self.prompt[place : close + 1], "words that change on the way", direct[sign.start()])
            elif sign := _ALTERNATES.search(inside):
                self._foreign(self.prompt[place : close + 1], "words that take turns", direct[sign.start()])
        for pattern, what in _PLACES:
            found = pattern.match(self.prompt, place)
            if found and not (found[0].startswith("AND") and self._is_shouted(found)):
                self._foreign(found[0], what, place)

    def _direct(self, start: int, close: int) -> list[int]:
        """The places between two brackets, what is bracketed in there left out."""
        letters, place = list[int](), start + 1
        while place < close:
            if place in self.closing:
                place = self.closing[place]
            else:
                letters.append(place)
            place += 1
        return letters

    def _is_shouted(self, found: re.Match[str]) -> bool:
        """Whether an AND stands among words in capitals, SALT AND PEPPER, or among none."""
        before = re.findall(r"[^\W\d_]+", self.prompt[max(0, found.start() - _NEAR) : found.start()])[-1:]
        after = re.findall(r"[^\W\d_]+", self.prompt[found.end() : found.end() + _NEAR])[:1]
        return all(word.isupper() for word in before + after)

    def _foreign(self, found: str, what: str, place: int) -> None:
        self.places.append(place)
        message = (
            f"{_quoted(found)} in the prompt is what other programs read as {what}; that is not done here: take it "
            "out, or put a backslash before it to make words of it"
        )
        self._complain(what, message, "it is painted as words", refuse=self.policy.refuses_foreign)

    def _adapter(self, tag: re.Match[str]) -> None:
        """Take an adapter's name and weight, or say why not."""
        message = self._take(tag)
        if message:
            self._complain(tag[0], message, "its tag was ignored", refuse=self.policy.refuses_adapters)

    def _take(self, tag: re.Match[str]) -> str | None:
        if tag.re is _UNFINISHED:
            return f"{_quoted(tag[0])} in the prompt has no end: <lora:NAME:0.8>"
        name, *arguments = (part.strip() for part in tag[2].split(":"))
        name = name.removesuffix(".safetensors")
        if tag[1].lower() == "hypernet":
            return f"{_quoted(tag[0])} in the prompt names a hypernetwork; fewstep has none"
        if not name:
            return f"{_quoted(tag[0])} in the prompt names no LoRA"
        if self.negative:
            return f"{_quoted(tag[0])} is in the negative prompt, where a LoRA means nothing; write it into the prompt"
        weight = _weight(name, arguments)
        if isinstance(weight, str):
            return weight
        if self.here is not None and name not in self.here:
            return f"there is no LoRA {_quoted(name)} here{f' (there are {_list(self.here)})' if self.here else ''}"
        if self.loras.get(name, weight) != weight:
            return f"the LoRA {_quoted(name)} is in the prompt twice, with {self.loras[name]:g} and {weight:g}"
        self.loras[name] = weight
        return None

    def _complain(self, about: str, message: str, otherwise: str, *, refuse: bool) -> None:
        if refuse:
            raise InvalidRequest(message)
        self.advice.setdefault(about, f"{message}; {otherwise}")


def _weight(name: str, arguments: list[str]) -> float | str:
    """How much of an adapter a tag's arguments say, or why that cannot be had."""
    amounts: dict[str, float] = {}
    for place, argument in enumerate(filter(None, arguments)):
        key, equals, value = argument.rpartition("=")
        key = key.strip() if equals else ("te", "unet", "dyn")[min(place, 2)]
        if key not in ("te", "unet"):
            return f"the LoRA {_quoted(name)} cannot be given {_quoted(argument)}; give one number: <lora:{name}:0.8>"
        try:
            amounts[key] = float(value)
        except ValueError:
            return f"the weight {_quoted(argument)} of the LoRA {_quoted(name)} is no number"
    if len(set(amounts.values())) > 1:
        return f"the LoRA {_quoted(name)} has one weight for words and picture; give one number: <lora:{name}:0.8>"
    return next(iter(amounts.values()), 1.0)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…")


def _list(names: Collection[str]) -> str:
    shown: Iterator[str] = iter(sorted(names)[:8])
    return ", ".join(shown) + (", …" if len(names) > 8 else "")
