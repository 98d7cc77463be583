"""Language models with their transcoders: loading them, and running them with everything seen."""

from circuit_nb.model.chat import chat_prompt
from circuit_nb.model.loading import load
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt, Vocabulary

__all__ = ["Prompt", "Record", "ReplacementModel", "Vocabulary", "chat_prompt", "load"]
