"""The explorer's way out: hands a session on to `circuit_nb.sharing`, and tells what is shared."""

from __future__ import annotations

from pathlib import Path

from circuit_nb.files import check_writable
from circuit_nb.panels.session import Session


def export(session: Session, path: str | Path, *, new_tokens: int | None, progress: bool) -> Path:
    """See `Explorer.export`."""
    from circuit_nb import sharing

    path = Path(path)
    path = path if path.suffix else path.with_suffix(".html")
    check_writable(path)
    with session.lock:
        page = sharing.page(session, new_tokens=new_tokens, progress=progress)
    print(page.contents)
    return page.write(path)
