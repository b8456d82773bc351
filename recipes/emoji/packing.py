"""What the package carries of the starter: every network packed, the student as its difference to the teacher."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import load_file

from fewstep.models import packed
from fewstep.models.locating import FAST_DECODER, PACKED

# The student is close to its teacher (3 % of the weights' size), so that two bits of the difference tell it better than
# six bits tell the teacher. docs/starter.md says what all of it costs in pictures.
TEACHER, STUDENT, FAST, ADAPTER, EYE, ART = 6, 2, 8, 6, 8, 6
TEACHER_UNET, STUDENT_UNET = Path("teacher") / "unet", Path("unet")


def text_bits(name: str) -> int:
    """Two thirds of the text encoder are its table of words."""
    return 6 if "token_embedding" in name else 8


def autoencoder_bits(name: str) -> int:
    """Most of it are the decoder's first blocks; the encoder makes what others learn, the last blocks paint edges."""
    return 6 if re.match(r"decoder\.(conv_in|mid_block|up_blocks\.[012])\.", name) else 8


PARTS: Mapping[Path, int | Callable[[str], int]] = {
    TEACHER_UNET: TEACHER,
    STUDENT_UNET: STUDENT,
    Path("text_encoder"): text_bits,
    Path("vae"): autoencoder_bits,
    Path(FAST_DECODER): FAST,
}


def pack_model(source: Path, target: Path) -> None:
    """A model folder of the recipe as the package carries it; the adapters in `target` stay, and are of the old one."""
    for part, bits in PARTS.items():
        shutil.rmtree(target / part, ignore_errors=True)
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("*.safetensors"))
        base = target / TEACHER_UNET / PACKED if part == STUDENT_UNET else None
        (weights,) = (source / part).glob("*.safetensors")
        packed.pack(load_file(weights), target / part / PACKED, bits, base=base)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "adapters"), dirs_exist_ok=True)
    tokenizer = target / "tokenizer" / "tokenizer.json"
    words = json.loads(tokenizer.read_text(encoding="utf-8"))
    tokenizer.write_text(json.dumps(words, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def pack_file(source: Path, target: Path, bits: int, metadata: Mapping[str, str] | None = None) -> None:
    """One file of weights, with its metadata and what `metadata` has in place of it."""
    tensors, facts = packed.read(source)
    packed.pack(tensors, target, bits, {**facts, **(metadata or {})})
