"""A picture carries how it was made, in a form that survives everything a prompt can hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fewstep
from fewstep.cli.output import write_picture
from fewstep.errors import InvalidRequest
from fewstep.models.model import Model
from fewstep.pipelines.provenance import Record, UsedControl, UsedLora, image_hash, read_record, record_of

RECORD = Record(
    prompt="a cat face",
    seed=7,
    steps=4,
    guidance_scale=5.5,
    sampler="lcm",
    width=128,
    height=64,
    model="starter",
    model_name="starter",
    model_hash="0123456789ab",
    negative_prompt="dog",
    strength=0.5,
    source="ff",
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


# as fewstep 0.1.0 wrote it into a picture, before there was a table of fields
OLD = (
    '{"prompt": "a red apple", "seed": 3, "steps": 4, "guidance_scale": 3.0, "sampler": "tcd", "width": 128, '
    '"height": 128, "model": "starter", "model_name": "starter", "model_hash": "2293d6883fae", "kind": null, '
    '"prediction_type": null, "zero_snr": null, "unet": null, "vae": null, "negative_prompt": "", "num_images": 1, '
    '"loras": [{"name": "ink", "hash": "ab12", "weight": 0.7, "reference": null}], "embeddings": [], "controls": '
    '[{"name": "edges", "image": "ff", "scale": 0.5}], "strength": null, "timesteps": null, "variation": 0.3, '
    '"variation_seed": 4, "upscale": 2.0, "refine_strength": 0.4, "refine_steps": null, "tile": false, "source": null, '
    '"mask": null, "travel": null, "version": "0.1.0"}'
)


def test_an_old_record_is_read_and_says_the_same() -> None:
    record = Record.from_json(OLD)
    later = {"precision": "float32", "decoder": "whole", "backend": "eager"}
    assert json.loads(record.to_json()) == json.loads(OLD) | later
    assert Record.from_json(OLD.replace('"vae": null', '"vae": "fast"')).decoder == "fast"
    assert record == Record(
        prompt="a red apple",
        seed=3,
        steps=4,
        guidance_scale=3.0,
        sampler="tcd",
        width=128,
        height=128,
        model="starter",
        model_name="starter",
        model_hash="2293d6883fae",
        loras=(UsedLora("ink", "ab12", 0.7),),
        controls=(UsedControl("edges", "ff", 0.5),),
        variation=0.3,
        variation_seed=4,
        upscale=2.0,
        refine_strength=0.4,
        version="0.1.0",
    )


@given(prompt=TEXT, negative_prompt=TEXT)
@settings(deadline=None)  # files are written
def test_a_record_survives_a_png(tmp_path_factory: pytest.TempPathFactory, prompt: str, negative_prompt: str) -> None:
    values = {**RECORD.__dict__, "prompt": prompt, "negative_prompt": negative_prompt}
    image, path = Image.new("RGB", (1, 1)), tmp_path_factory.getbasetemp() / "record.png"
    image.info.update(Record(**values).chunks())
    write_picture(image, path)
    assert read_record(path) == Record(**values)


def test_the_parameters_are_in_the_customary_style() -> None:
    assert RECORD.to_parameters() == (
        "a cat face\n"
        "Negative prompt: dog\n"
        "Steps: 4, Sampler: lcm, CFG scale: 5.5, Seed: 7, Size: 128x64, Model hash: 0123456789ab, Model: starter, "
        f"Denoising strength: 0.5, Version: fewstep {fewstep.__version__}"
    )


def test_every_picture_of_a_batch_carries_its_own_seed(student: Model) -> None:
    pictures = fewstep.text2image(student, "cat", seed=3, num_images=2, steps=1)
    records = [record_of(picture) for picture in pictures]
    assert [record.seed for record in records if record] == [3, 4]
    assert all(record and record.num_images == 1 and record.model_hash == student.origin.hash for record in records)


def test_the_source_is_known_by_its_pixels_and_not_by_its_file(student: Model, tmp_path: Path) -> None:
    source = fewstep.text2image(student, "cat", seed=3, steps=1)
    record = record_of(fewstep.image2image(student, "dog", source, strength=0.4, steps=1))
    assert record is not None
    assert (record.strength, record.source) == (0.4, image_hash(source))
    source.save(tmp_path / "same.bmp")
    assert image_hash(Image.open(tmp_path / "same.bmp")) == record.source
    source.putpixel((0, 0), (1, 2, 3))
    assert image_hash(source) != record.source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        json.dumps({**RECORD.__dict__, "extra": 1}),
        json.dumps({**RECORD.__dict__, "model": 7}),
        json.dumps({**RECORD.__dict__, "source": []}),
    ],
)
def test_a_record_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="parameters cannot be read"):
        Record.from_json(text)


def test_a_picture_from_elsewhere_has_no_record(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "x.png")
    with pytest.raises(InvalidRequest, match="does not say how it was made"):
        read_record(tmp_path / "x.png")
