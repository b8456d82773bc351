"""Rare words learn alone: nothing that the U-Net was trained with may move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from fewstep.models.model import Model
from recipes.emoji import words


def parts(student: Model) -> tuple[CLIPTextModel, CLIPTokenizer]:
    import copy

    return copy.deepcopy(student.text.encoders["text_encoder"]).float(), student.text.tokenizers["tokenizer"]


def states(encoder: Any, tokenizer: Any, text: str) -> torch.Tensor:
    return encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state.detach()


def test_only_the_rows_of_rare_words_learn(student: Model) -> None:
    encoder, tokenizer = parts(student)
    whole = [piece.removesuffix("</w>") for piece in tokenizer.get_vocab() if piece.endswith("</w>") and len(piece) > 6]
    assert len(whole) >= 2
    seen, common = whole[0], whole
    free = words.free_pieces(tokenizer, [seen])
    rare = words.rare_words(tokenizer, free, common)
    assert seen not in rare
    assert rare
    before = states(encoder, tokenizer, seen), states(encoder, tokenizer, rare[0])
    words.free_rows_alone(encoder, free)
    optimizer = torch.optim.Adam([weight for weight in encoder.parameters() if weight.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        encoder(**tokenizer(rare[0], return_tensors="pt")).pooler_output.square().mean().backward()
        optimizer.step()
    assert torch.equal(states(encoder, tokenizer, seen), before[0])
    assert not torch.equal(states(encoder, tokenizer, rare[0]), before[1])


def test_embeddings_are_kept_for_these_texts_in_this_order_alone(tmp_path: Path) -> None:
    """A file of as many embeddings, but of other texts, once taught words the meanings of others."""
    asked: list[str] = []

    def teacher(texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        return torch.tensor([[float(ord(text[0]))] * words.WIDTH for text in texts])

    def embedded(*texts: str) -> list[float]:
        return words.embed(texts, tmp_path, teacher)[:, 0].tolist()  # type: ignore[arg-type]

    assert embedded("a", "bb", "c") == [97.0, 98.0, 99.0]
    assert embedded("c", "a", "bb") == [99.0, 97.0, 98.0]
    before = len(asked)
    assert embedded("a", "bb", "c") == [97.0, 98.0, 99.0]
    assert len(asked) == before
