"""Prompts for models that were tuned to converse."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel


def chat_prompt(model: ReplacementModel, user: str, answer: str = "") -> str:
    """Text in which a user says something and the model is about to answer.

    Args:
        model: A model whose tokenizer has a chat template, such as Gemma-3 -it.
        user: What the user says.
        answer: How the model's answer begins; the next token continues it.

    Returns:
        The whole text, special tokens included, to be given as `prompt`.

    Raises:
        ValueError: If the tokenizer has no chat template.
    """
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            f"{model.name} has no chat template: it was not tuned to converse; use plain text."
        )
    turns = [{"role": "user", "content": user}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return str(text) + answer
