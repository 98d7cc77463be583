"""The explorer and its panels, for JupyterLab, Notebook, VS Code and Colab.

`explore(model, prompt)` shows them all; each can also be made alone from a `Session`.
"""

from __future__ import annotations

from circuit_nb.panels.answer import AnswerPanel
from circuit_nb.panels.attention import AttentionPanel
from circuit_nb.panels.connections import ConnectionsPanel
from circuit_nb.panels.evidence import EvidencePanel
from circuit_nb.panels.explorer import Explorer, explore
from circuit_nb.panels.feature import FeaturePanel
from circuit_nb.panels.find import FindPanel
from circuit_nb.panels.graph import GraphPanel
from circuit_nb.panels.paths import PathsPanel
from circuit_nb.panels.prompt import PromptPanel
from circuit_nb.panels.session import Session
from circuit_nb.panels.sets import SetPanel
from circuit_nb.panels.state import Added, Setup, Switch
from circuit_nb.panels.subgraph import SubgraphPanel
from circuit_nb.panels.switches import SwitchesPanel

__all__ = [
    "Added",
    "AnswerPanel",
    "AttentionPanel",
    "ConnectionsPanel",
    "EvidencePanel",
    "Explorer",
    "FeaturePanel",
    "FindPanel",
    "GraphPanel",
    "PathsPanel",
    "PromptPanel",
    "Session",
    "SetPanel",
    "Setup",
    "SubgraphPanel",
    "Switch",
    "SwitchesPanel",
    "explore",
]
