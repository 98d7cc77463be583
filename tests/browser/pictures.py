"""Pictures for the README: the explorer in light and dark JupyterLab.

    python tests/browser/pictures.py [--panels]

Writes `notebooks/images/explorer-light.png` and `-dark.png`; with `--panels` also one picture of
each panel into `build/browser`, to look at.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import sys
import tempfile
import zlib
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
from playwright.sync_api import Page
from reader import Reader
from serving import Server, browser_page, run_all

ROOT = Path(__file__).parents[2]
IMAGES, PANELS = ROOT / "notebooks" / "images", ROOT / "build" / "browser"
OAKLAND = "Fact: the capital of the state containing Oakland is"
NAMES = ("prompt", "graph", "connections", "paths", "subgraph", "feature", "switches")


PIXELS = """async (source) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  let text = "";
  for (let i = 0; i < data.length; i += 32768)
    text += String.fromCharCode(...data.subarray(i, i + 32768));
  return [image.width, image.height, btoa(text)];
}"""


def smaller(page: Page, png: bytes) -> bytes:
    """The same picture in 32 steps a channel, which packs better than what the browser writes."""
    width, height, text = page.evaluate(PIXELS, "data:image/png;base64," + b64encode(png).decode())
    pixels = np.frombuffer(b64decode(text), dtype=np.uint8).reshape(height, width, 4)[..., :3]
    steps = np.minimum((pixels.astype(np.uint16) + 4) // 8 * 8, 255).astype(np.uint8)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), steps.reshape(height, -1)], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def picture(theme: str, panels: bool) -> None:
    """Take the pictures in one theme."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "notebooks" / "dallas_austin.ipynb", folder)
        server = Server("lab", Path(folder), dark=theme == "dark")
        try:
            with browser_page(1280, 2000) as page:
                run_all(page, server.notebook("dallas_austin.ipynb"))
                reader = Reader(page)
                page.evaluate(
                    "() => window.jupyterapp.commands.execute('application:toggle-left-area')"
                )
                reader.toggle("Texas")
                reader.expect(lambda r: r.answer() != "Austin", "Texas is off")
                reader.swap_in(OAKLAND, "California")
                reader.expect(lambda r: r.answer() == "Sacramento", "California is in")
                page.mouse.move(5, 5)
                page.wait_for_timeout(1500)
                IMAGES.mkdir(parents=True, exist_ok=True)
                taken = reader.explorer.screenshot()
                (IMAGES / f"explorer-{theme}.png").write_bytes(smaller(page, taken))
                for name in NAMES if panels else ():
                    PANELS.mkdir(parents=True, exist_ok=True)
                    reader.panel(name).screenshot(path=PANELS / f"{name}-{theme}.png")
        finally:
            server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--panels", action="store_true")
    options = parser.parse_args()
    for theme in ("light", "dark"):
        picture(theme, options.panels)


if __name__ == "__main__":
    sys.exit(main())
