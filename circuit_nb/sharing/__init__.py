"""A page to share: one file that needs no kernel and no network, with switches that still work.

`page(session)` gathers what the panels show, and computes beforehand what the switches do;
`Page.write` makes the file; `read` reads one again.
"""

from __future__ import annotations

from circuit_nb.sharing.gathering import page
from circuit_nb.sharing.page import Page, read

__all__ = ["Page", "page", "read"]
