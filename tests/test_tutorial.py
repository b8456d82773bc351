"""The tutorial runs from top to bottom, and every cell that ends in a value shows a picture or a fact."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import HAS_STARTER

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


@pytest.mark.slow
@pytest.mark.skipif(not HAS_STARTER, reason="no weights yet")
def test_it_runs_from_top_to_bottom() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names: dict[str, Any] = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            *statements, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(statements, []), str(NOTEBOOK), "exec"), names)
            assert isinstance(last, ast.Expr), "a cell of the tutorial ends by showing something"
            shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names))
    pictures = [value for value in shown if isinstance(value, Image.Image)]
    assert len(pictures) >= 8
    assert all(len(picture.getcolors(2**16) or range(99)) > 10 for picture in pictures)


def test_it_is_stored_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(not cell["outputs"] for cell in cells if cell["cell_type"] == "code")
