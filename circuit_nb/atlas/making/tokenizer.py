"""One token a word and one a name, in the manner of Gemma: tokens carry their leading space.

`Fact: the capital of the state containing Dallas is` becomes `<bos>`, ` Fact`, `:`, ` the`,
` capital`, … ` Dallas`, ` is`. The tokenizer adds `<bos>` itself; its id is 1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<bos>", "<eos>", "<pad>")
"""Special tokens; their ids are their places here."""
UNK, BOS, EOS, PAD = range(4)


def pattern(names: Iterable[str]) -> str:
    """Return the regular expression of one token: a name of several words, a word, a mark."""
    several = sorted((n for n in names if not re.fullmatch(r"\w+", n)), key=lambda n: (-len(n), n))
    escaped = "|".join(re.escape(name).replace(r"\ ", " ").replace(r"\-", "-") for name in several)
    return rf" ?(?:{escaped})(?!\w)| ?\w+| ?[^\w\s]"


def split(text: str, names: Iterable[str]) -> list[str]:
    """Split a text into token strings, as the tokenizer does, without specials."""
    return re.findall(pattern(names), " " + text.strip())


def vocabulary(texts: Iterable[str], names: Collection[str]) -> list[str]:
    """Return the token strings by id: specials, other words, names; each by the alphabet."""
    expression = re.compile(pattern(names))
    found = {word for text in texts for word in expression.findall(" " + text)}
    named = {word for word in found if word.strip() in names}
    return [*SPECIAL, *sorted(found - named), *sorted(named)]


def build_tokenizer(words: list[str], names: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return the tokenizer with the given token strings by id."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Prepend(" ")])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern(names)), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from the folder of a saved model."""
    return PreTrainedTokenizerFast.from_pretrained(folder)
