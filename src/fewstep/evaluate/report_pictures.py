"""The parts of a report that show pictures; each picture is inside the page, small."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from fewstep.evaluate.gallery import Gallery
from fewstep.evaluate.results import Results
from fewstep.imaging.channels import on_white

THUMBNAIL = 256  # pixels along the longer side


def scroll(name: str, kind: str = "") -> str:
    """The opening of a box that scrolls sideways, also by keyboard."""
    return f'<div class="scroll {kind}" tabindex="0" role="region" aria-label="{name}">'


def grid(gallery: Gallery, results: Results) -> str:
    """One prompt a column, one way to sample a row."""
    head = "".join(f"<th>{escape(text)}</th>" for text in gallery.prompts)
    body = []
    for row in results.rows:
        images = "".join(f"<td>{_img(image, row.label)}</td>" for image in gallery.grid.get(row.label, []))
        body.append(f'<tr class="{row.role}"><th scope="row">{escape(row.label)}</th>{images}</tr>')
    return (
        '<section id="pictures"><h2>The same prompt and the same noise</h2>'
        f"{scroll('Pictures', 'pictures')}<table><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div></section>"
    )


def strips(gallery: Gallery, results: Results) -> str:
    """Several pictures of one prompt for each way to sample; nothing where there is one of each."""
    if not gallery.strips:
        return ""
    blocks = []
    for prompt, strips in gallery.strips.items():
        rows = [
            f'<div class="strip"><span>{escape(label)}</span><div>{"".join(_img(i, label) for i in images)}</div></div>'
            for label, images in strips.items()
        ]
        blocks.append(f'<div class="card"><h3>{escape(prompt)}</h3>{"".join(rows)}</div>')
    return (
        '<section><h2>Variety within a prompt</h2><p class="lead">One prompt, other noise: a model that became tamer '
        f'in distillation gives the same picture again.</p><div class="cards">{"".join(blocks)}</div></section>'
    )


def twins(gallery: Gallery) -> str:
    """Generated pictures beside the real ones that they are nearest to."""
    if not gallery.twins:
        return ""
    pairs = "".join(
        f'<figure class="twin"><div>{_img(t.generated, t.prompt)}{_img(t.real, t.name)}</div>'
        f"<figcaption><b>{t.closeness:.2f}</b> {escape(t.prompt)}<br><small>nearest: {escape(t.name)}</small>"
        "</figcaption></figure>"
        for t in gallery.twins
    )
    share = (
        ""
        if gallery.copies is None
        else (
            f" {gallery.copies:.1%} of all its pictures are nearer to a real one than nine in ten real ones are to "
            "each other."
        )
    )
    return (
        f'<section><h2>What may be memorised</h2><p class="lead">The pictures of {escape(gallery.twins_of)} that are '
        "nearest to real ones, on the left, with those on the right. The number is their distance, in units of the "
        f"usual distance between neighbours among real pictures: well below 1 is a copy.{share}</p>"
        f'<div class="twins">{pairs}</div></section>'
    )


def _img(image: Image.Image, alt: str) -> str:
    small = on_white(image).copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, format="WEBP", quality=82, method=4)
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<img loading="lazy" alt="{escape(alt)}" src="data:image/webp;base64,{encoded}">'
