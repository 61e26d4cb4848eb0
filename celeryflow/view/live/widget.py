"""A run in the browser: the model that the notebook's front end shows. Importing this loads ipywidgets."""

from __future__ import annotations

import hashlib
import json
import secrets
from functools import cache
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from celeryflow.view.html import style
from celeryflow.view.live.scene import SIGNS, Mark


@cache
def _script() -> str:
    """The program of the view: its styles, and its parts in order, which is all that a front end has to load.

    As `_css`, anywidget would set the styles anew for each run, and the browser then look at its whole page again.
    """
    folder = files("celeryflow.view") / "static" / "live"
    parts = sorted(part.name for part in folder.iterdir() if part.name.endswith(".js"))
    styles = f"{style()}\n{(folder / 'live.css').read_text(encoding='utf-8')}"
    name = f"celeryflow-{hashlib.sha256(styles.encode()).hexdigest()[:16]}"
    head = f"const STYLES = {json.dumps({'id': name, 'text': styles})};"
    return "\n".join([head, *((folder / part).read_text(encoding="utf-8") for part in parts)])


class Model(anywidget.AnyWidget):
    """What a front end knows of a run.

    All of it is in the traits, so that a tab which is opened again, and asks for them, has the truth. While the run
    goes on an update holds a byte a box, and in `change` what else is new of some boxes; these stand in `boxes` too,
    which is read when it is asked for and never sent otherwise. Static pages of the run name its `slot`.
    """

    _esm = _script()
    name = traitlets.Unicode().tag(sync=True)
    run = traitlets.Unicode().tag(sync=True)
    slot = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    signs = traitlets.Dict(SIGNS).tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)
    outline = traitlets.Unicode().tag(sync=True)
    states = traitlets.Unicode().tag(sync=True)
    change = traitlets.Dict().tag(sync=True)
    boxes = traitlets.Dict().tag(sync=True, to_json=lambda _, model: model.everything)
    head = traitlets.Dict().tag(sync=True)
    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    aside = traitlets.Unicode().tag(sync=True)

    def __init__(self, name: str, run: str, **traits: Any) -> None:
        self.everything: dict[str, Any] = {"seq": 0, "marks": []}
        super().__init__(name=name, run=run, slot=secrets.token_hex(8), **traits)

    def tell(self, marks: list[Mark], **traits: Any) -> None:
        """Send what is new, in one message: marks of boxes that are others than they were, and traits."""
        before, seq = self.everything["marks"], self.everything["seq"] + 1
        is_same = len(before) == len(marks)
        fresh = {str(at): new for at, new in enumerate(marks) if not (is_same and before[at] == new)}
        with self.hold_sync():
            if fresh:
                self.everything = {"seq": seq, "marks": marks}
                self.change = {"seq": seq, "count": len(marks), "marks": fresh}
            for name, value in traits.items():
                setattr(self, name, value)

    def close(self) -> None:
        """Let the front end forget it, and the layout that every widget brings."""
        layout = self.layout
        super().close()
        layout.close()
