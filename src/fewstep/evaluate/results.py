"""`results.json`: everything that was measured, with the draws that let two runs be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fewstep.errors import InvalidRequest
from fewstep.evaluate.bootstrap import Measure
from fewstep.evaluate.speed import Speed
from fewstep.files import replacing

FORMAT = "fewstep evaluation 1"
DIGITS = 5  # of the draws' deviation, to which they are written: a file that can be sent


@dataclass(frozen=True)
class Row:
    """A candidate with what was measured. `timesteps` are the times that it was asked at."""

    label: str
    line: str
    role: str
    model: str
    model_hash: str
    sampler: str
    steps: int
    guidance_scale: float
    timesteps: tuple[float, ...]
    measures: Mapping[str, Measure]
    speed: Speed | None = None


@dataclass(frozen=True)
class Conditions:
    """What must be the same for numbers to be comparable, and in which measures."""

    features: str
    features_identity: str
    num_features: int
    reference: str | None
    reference_identity: str | None
    reference_size: int
    teacher: str | None
    teacher_hash: str | None
    prompts: str
    prompts_identity: str
    num_images: int
    per_prompt: int
    seed: int
    draws: int
    height: int
    width: int
    device: str
    threads: int
    dtype: str
    two_part_identity: str | None = None


@dataclass(frozen=True)
class Results:
    """One evaluation."""

    model: str
    command: str
    version: str
    conditions: Conditions
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    recommendation: Mapping[str, Any] = field(default_factory=dict)
    ceiling: Mapping[str, Measure] = field(default_factory=dict)
    """What real pictures reach of the measures that have a top."""

    def of_role(self, role: str) -> list[Row]:
        return [row for row in self.rows if row.role == role]

    @property
    def teacher(self) -> Row | None:
        return next(iter(self.of_role("teacher")), None)

    def write(self, path: Path) -> None:
        content = {"format": FORMAT, **asdict(self)}
        for row in content["rows"]:
            row["measures"] = {name: _rounded(measure) for name, measure in row["measures"].items()}
        content["ceiling"] = {name: _rounded(measure) for name, measure in content["ceiling"].items()}
        with replacing(path) as file:
            file.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Raises `InvalidRequest` for what is no such file."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise InvalidRequest(f"{path} was written by another version of fewstep; evaluate again")
            rows = tuple(_row(row) for row in content.pop("rows"))
            conditions = Conditions(**content.pop("conditions"))
            warnings = tuple(content.pop("warnings"))
            ceiling = _measures(content.pop("ceiling", {}))
            return cls(**content, rows=rows, conditions=conditions, warnings=warnings, ceiling=ceiling)
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from error
        except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
            raise InvalidRequest(f"{path} is no results.json of fewstep evaluate: {error}") from error


def _rounded(measure: Mapping[str, Any]) -> dict[str, Any]:
    """With the interval written out, for those who read the file by other means."""
    whole = Measure(measure["value"], tuple(measure["draws"]))
    error = whole.error
    places = DIGITS - 1 - math.floor(math.log10(error)) if math.isfinite(error) and error > 0 else None
    return {
        "value": whole.value,
        "error": None if math.isnan(error) else error,
        "low": None if math.isnan(error) else whole.low,
        "high": None if math.isnan(error) else whole.high,
        "draws": [draw if places is None else round(draw, places) for draw in whole.draws],
    }


def _measures(content: dict[str, Any]) -> dict[str, Measure]:
    return {name: Measure(measure["value"], tuple(measure["draws"])) for name, measure in content.items()}


def _row(content: dict[str, Any]) -> Row:
    measures = _measures(content.pop("measures"))
    speed = content.pop("speed")
    return Row(
        **{**content, "timesteps": tuple(content["timesteps"])},
        measures=measures,
        speed=None if speed is None else Speed(**speed),
    )
