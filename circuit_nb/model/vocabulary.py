"""Text to token ids and back, with the special token every prompt begins with."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from circuit_nb.bridge.protocol import Tokenizer
from circuit_nb.given import whole

Prompt: TypeAlias = "str | Sequence[int] | Tensor"
"""Text, token ids, or a 1-D tensor of token ids."""


class Vocabulary:
    """A tokenizer, and the errors it ought to raise.

    Args:
        tokenizer: A Hugging Face tokenizer.
        size: Number of ids the model knows.
        name: The model's name, for messages.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, name: str) -> None:
        self.tokenizer, self.size, self.name = tokenizer, size, name

    def token(self, token_id: int) -> str:
        """One token as text."""
        return str(self.tokenizer.decode([int(token_id)], clean_up_tokenization_spaces=False))

    def token_id(self, token: str | int) -> int:
        """The id of a token given as text or id.

        Raises:
            ValueError: If the text is not one token, or the id does not exist.
        """
        ids = self._encode(token) if isinstance(token, str) else [whole(token, "A token's id")]
        if len(ids) != 1:
            pieces = ", ".join(repr(self.token(i)) for i in ids)
            raise ValueError(
                f"{token!r} is {len(ids)} tokens ({pieces}), and one is needed; mind the "
                "space that most words begin with, as in ' Austin'."
            )
        self._check(ids)
        return ids[0]

    def ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt; BOS, PAD or EOS is put before it unless it begins with a special token.

        Raises:
            ValueError: If the prompt is empty or holds what the vocabulary does not.
        """
        ids = self._encode(prompt) if isinstance(prompt, str) else _given(prompt)
        if not ids:
            raise ValueError("The prompt is empty; give at least one token of text.")
        self._check(ids)
        t = self.tokenizer
        if ids[0] in t.all_special_ids:
            return ids
        special = (t.bos_token_id, t.pad_token_id, t.eos_token_id, *t.all_special_ids)
        # An id of 0 is an id: only None means that there is no such token.
        first = [i for i in special if i is not None][:1]
        return [*first, *ids]

    def _encode(self, text: str) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The text holds half a character (U+{ord(text[error.start]):04X}, a lone "
                f"surrogate) after {text[max(0, error.start - 20) : error.start]!r}: it was cut or "
                "decoded wrongly; write that character anew, or leave it out."
            ) from None
        ids = [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        unknown = self.tokenizer.unk_token_id
        if unknown in ids and str(self.tokenizer.unk_token) not in text:
            found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            offsets = found["offset_mapping"]
            spans = (offsets[i] for i, token in enumerate(ids) if token == unknown)
            raise ValueError(self._unknown([text[a:b] for a, b in spans]))
        return ids

    def _unknown(self, words: Sequence[str]) -> str:
        named = ", ".join(repr(word.strip()) for word in words)
        known = [str(entry).strip() for entry in self.tokenizer.get_vocab()]
        close = difflib.get_close_matches(words[0].strip(), known, n=3)
        hint = f" Near it: {', '.join(close)}." if close else ""
        return f"{self.name} has no token for {named}; use words of its vocabulary.{hint}"

    def _check(self, ids: Sequence[int]) -> None:
        wrong = [i for i in ids if not 0 <= i < self.size]
        if wrong:
            raise ValueError(
                f"Token id {wrong[0]} is not in the vocabulary; ids are 0 to {self.size - 1}."
            )


def _given(prompt: Sequence[int] | Tensor) -> list[int]:
    """A prompt given as ids."""
    given = torch.as_tensor(prompt)
    no_ids = given.is_floating_point() or given.is_complex() or given.dtype is torch.bool
    if given.numel() and (given.ndim != 1 or no_ids):
        raise ValueError(
            f"The prompt is a {given.dtype} tensor of shape {tuple(given.shape)}; give "
            "text, a list of token ids, or a 1-D tensor of them."
        )
    return [int(i) for i in given.flatten()]
