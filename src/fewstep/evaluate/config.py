"""What an evaluation is asked to do: typed, and checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewstep.core.samplers import SOLVERS, one_call_solvers
from fewstep.errors import InvalidRequest
from fewstep.evaluate.candidates import ModelSpec, check_steps
from fewstep.evaluate.features import CLIP, NETWORKS
from fewstep.evaluate.prompts import BUILT_IN, read_prompts
from fewstep.evaluate.reference import check_reference
from fewstep.models.locating import BUILT_IN as BUILT_IN_MODELS

FEWEST_PICTURES = 16
MOST_PICTURES = 1_000_000
AUTO = "auto"
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One evaluation; raises `InvalidRequest` for what cannot work.

    model, teacher, also  "NAME" or "NAME+LORA:WEIGHT+…"; the teacher "auto" is the one that the model's card names,
                          where it is built in; "none" is none
    prompts               a text file, one a line, or "builtin"
    reference             as `reference.read_reference` takes it; "auto" is the built-in art for the starter and
                          nothing for others; "none" is nothing
    steps, teacher_steps  step counts that are compared; that of the teacher at its best (None: its card's)
    num_images            pictures of every candidate; `per_prompt` of each prompt, with different noise
    features              "eye", "clip", "inception", or "auto": the eye for the starter, else inception
    two_part              whether a hundred prompts of two parts are asked, too; None: of the starter
    draws, rounds         of the bootstrap; of the timing
    """

    model: str = "starter"
    teacher: str = AUTO
    also: tuple[str, ...] = ()
    prompts: str = BUILT_IN
    reference: str = AUTO
    steps: tuple[int, ...] = (1, 2, 4, 8)
    teacher_steps: int | None = None
    solvers: tuple[str, ...] = one_call_solvers()
    num_images: int = 256
    per_prompt: int = 4
    seed: int = 0
    guidance_scale: float | None = None
    features: str = AUTO
    clip: str = CLIP
    two_part: bool | None = None
    draws: int = 200
    rounds: int = 9
    batch_size: int | None = None
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_steps(self.steps)
        for text in (self.model, *self.also):
            ModelSpec.of(text)
        if self.features not in (AUTO, *NETWORKS):
            raise InvalidRequest(f"unknown features {self.features[:60]!r}; choose auto, {', '.join(NETWORKS)}")
        if unknown := [name for name in self.solvers if name not in SOLVERS]:
            raise InvalidRequest(f"unknown solver {unknown[0][:60]!r}; choose among {', '.join(sorted(SOLVERS))}")
        self._check_numbers()
        found = len(read_prompts(self.prompts).texts)
        if self.num_prompts > found:
            raise InvalidRequest(
                f"{self.num_images} pictures at {self.per_prompt} a prompt need {self.num_prompts} prompts, and there "
                f"are {found}; ask for at most {found * self.per_prompt} pictures, or raise --per-prompt"
            )
        check_reference(self.reference_source)

    def _check_numbers(self) -> None:
        if not FEWEST_PICTURES <= self.num_images <= MOST_PICTURES:
            raise InvalidRequest(
                f"the number of pictures is {self.num_images}; it must be from {FEWEST_PICTURES} to {MOST_PICTURES:,}: "
                "fewer have no statistics"
            )
        if not 1 <= self.per_prompt <= 64 or self.num_images % self.per_prompt:
            raise InvalidRequest(
                f"{self.num_images} pictures cannot be {self.per_prompt} of each prompt; --per-prompt must be from 1 "
                "to 64 and divide the number of pictures"
            )
        if self.num_prompts < 2:
            raise InvalidRequest("one prompt says nothing about a model; lower --per-prompt or raise --num-images")
        if not 0 <= self.seed < 2**62:
            raise InvalidRequest(f"the seed is {self.seed}; it must be a whole number from 0 to 2^62 - 1")
        if not 2 <= self.draws <= 10_000:
            raise InvalidRequest(f"the bootstrap has {self.draws} draws; it must have from 2 to 10000")
        if self.rounds < 1:
            raise InvalidRequest(f"the timing has {self.rounds} rounds; it must have at least one")
        if self.teacher_steps is not None:
            check_steps((self.teacher_steps,))

    @property
    def num_prompts(self) -> int:
        return self.num_images // self.per_prompt

    @property
    def of_starter(self) -> bool:
        """Whether the model draws what the built-in prompts, reference and eye are about."""
        return ModelSpec.of(self.model).name in BUILT_IN_MODELS

    @property
    def asks_two_parts(self) -> bool:
        return self.of_starter if self.two_part is None else self.two_part

    @property
    def reference_source(self) -> str | None:
        if self.reference == AUTO:
            return BUILT_IN if self.of_starter and self.feature_network == "eye" else None
        return None if self.reference == NONE else self.reference

    @property
    def feature_network(self) -> str:
        if self.features != AUTO:
            return self.features
        return "eye" if self.of_starter else "inception"


def check_output(folder: Path) -> None:
    """Make the report's folder; raises `CannotWrite` where that, or writing into it, is impossible."""
    from tempfile import TemporaryFile

    from fewstep.errors import CannotWrite

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CannotWrite(f"cannot write into {folder}: {error.strerror or error}") from error
