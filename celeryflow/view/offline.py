"""Charts of altair's that show where nothing can be fetched, too, and leave a picture behind."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import altair as alt

from celeryflow.view import words

VEGA = "application/vnd.vegalite.v5+json"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"

NO_PICTURE = 'For a picture where nothing draws Vega-Lite: pip install "celeryflow[plot]"'

_ANGLES = {
    ord("<"): "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
    ord(">"): "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
}


class Offline:
    """Makes a chart of altair's show itself with the Vega-Lite 5 that notebooks have built in.

    Altair's own way to be shown fetches Vega from the net. Where there is none built in, the picture is shown, if
    vl-convert is there to draw it.
    """

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
        chart: Any = self
        if alt.renderers.active != "default":
            return super()._repr_mimebundle_(*args, **kwargs)  # type: ignore[misc]
        said = f"{chart.description}\n{NO_PICTURE}"
        bundle: dict[str, Any] = {VEGA: {**chart.to_dict(), "$schema": SCHEMA}, "text/plain": said}
        metadata: dict[str, Any] = {}
        with suppress(ImportError, ValueError), io.BytesIO() as file:
            chart.save(file, format="png", scale_factor=2)
            png = packed(file.getvalue())
            width, height = struct.unpack(">II", png[16:24])
            bundle |= {"image/png": base64.b64encode(png).decode(), "text/plain": chart.description}
            metadata["image/png"] = {"width": width // 2, "height": height // 2}
        return bundle, metadata


def inert(text: str, limit: int) -> str:
    """Foreign text that no page takes for a tag: altair writes a chart into a script of the page, as it is."""
    return words.plain(text, limit).translate(_ANGLES)


def packed(png: bytes) -> bytes:
    """The same picture in a quarter of the bytes, which a notebook keeps: vl-convert hardly compresses."""
    parts = list(_chunks(png))
    data = zlib.compress(zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT")), 6)
    at = next(at for at, (kind, _) in enumerate(parts) if kind == b"IDAT")
    rest = [part for part in parts[at:] if part[0] != b"IDAT"]
    return png[:8] + b"".join(_chunk(kind, body) for kind, body in [*parts[:at], (b"IDAT", data), *rest])


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
