"""PNG files that are small: pictures of a page have few colours."""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode, b64encode

import numpy as np
from playwright.sync_api import Page

_PIXELS = """async (source) => {
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
COLOURS = 256


def smaller(page: Page, png: bytes) -> bytes:
    """The same picture in its 256 most frequent colours, others as the nearest of them.

    Args:
        page: Any page; it decodes the picture.
        png: What a screenshot gives.
    """
    width, height, text = page.evaluate(_PIXELS, "data:image/png;base64," + b64encode(png).decode())
    pixels = np.frombuffer(b64decode(text), dtype=np.uint8).reshape(-1, 4)[:, :3]
    steps = np.minimum((pixels.astype(np.int32) + 2) // 4 * 4, 255)
    codes = steps @ np.array([1 << 16, 1 << 8, 1])
    colours, which, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rgb = np.stack([colours >> 16, (colours >> 8) & 255, colours & 255], axis=1)
    chosen = np.argsort(-counts, kind="stable")[:COLOURS]
    near = ((rgb[:, None, :] - rgb[None, chosen, :]) ** 2).sum(axis=2).argmin(axis=1)
    index = near[which.reshape(-1)].astype(np.uint8).reshape(height, width)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), index], axis=1)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", rgb[chosen].astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
