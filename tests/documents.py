"""A document whose examples run, in order and in one process, and whose pictures are made by them.

``python tests/documents.py docs/language.md`` draws its pictures anew.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
SVG = "{http://www.w3.org/2000/svg}"

_PARTS = re.compile(r"^```python\n(?P<block>.*?)^```|^!\[[^\]]*\]\((?P<picture>[^)]+\.svg)\)", re.DOTALL | re.MULTILINE)
_SHOWN = re.compile(r"^(?P<expression>\S.*?) +# (?P<value>.+)$")


def pictures(document: Path) -> list[Path]:
    """Files of the pictures that a document shows."""
    found = (part["picture"] for part in _PARTS.finditer(document.read_text()))
    return [document.parent / name for name in found if name]


def script(document: Path, folder: Path) -> str:
    """A program of all examples, which checks each line ``expression  # value``.

    A picture shows the `run` of the examples before it, and is saved in `folder`.
    """
    lines: list[str] = []
    for part in _PARTS.finditer(document.read_text()):
        if part["picture"]:
            lines.append(f"run.draw().save({str(folder / Path(part['picture']).name)!r})")
        else:
            lines += map(_checked, part["block"].splitlines())
    return "\n".join([*lines, "cf.shutdown()", ""])


def run(document: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run all examples as a reader would, away from this repository; the pictures go to `folder`."""
    with tempfile.TemporaryDirectory() as home:
        program = Path(home) / "examples.py"
        program.write_text(script(document, folder))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": f"{home}/state"}
        return subprocess.run(
            [sys.executable, "-W", "error", program],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )


def boxes(picture: Path) -> list[tuple[str, str]]:
    """Label and state of each box of a picture."""
    groups = ElementTree.parse(picture).getroot().iter(f"{SVG}g")
    return [(group.findtext(f"{SVG}text[@class='label']", ""), group.get("class", "")) for group in groups]


def _checked(line: str) -> str:
    shown = _SHOWN.match(line)
    if shown is None or not _is_expression(shown["expression"]):
        return line
    found, value = shown["expression"], shown["value"]
    return f"assert (found_ := ({found})) == ({value}), f'{{found_!r}} is not ' + {value!r}"


def _is_expression(source: str) -> bool:
    try:
        ast.parse(source, mode="eval")
    except SyntaxError:
        return False
    return True


if __name__ == "__main__":
    chosen = Path(sys.argv[1]).resolve()
    done = run(chosen, pictures(chosen)[0].parent)
    sys.exit(done.stderr or 0)
