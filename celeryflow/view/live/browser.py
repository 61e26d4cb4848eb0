"""A run as front ends with widgets show it: what is sent to them, and what their clicks do."""

from __future__ import annotations

import threading
import time
from functools import partial
from html import escape

from celeryflow.errors import CeleryflowError
from celeryflow.graph.model import LogLine
from celeryflow.runtime.snapshot.estimate import Countdown
from celeryflow.runtime.snapshot.fold import Snapshot
from celeryflow.view import html, words
from celeryflow.view.boxes import Drawing, drawing, refreshed
from celeryflow.view.live import scene
from celeryflow.view.live.follower import Follower, Look
from celeryflow.view.live.hearing import LATER, Ear, Message
from celeryflow.view.live.widget import Model
from celeryflow.view.outline import outline

TICK_S, LOG_TICK_S = 1.0, 0.2
ALL_S = 5.0
"""After so long all boxes are drawn anew."""

LOG_LEASE_S, LOG_LINES = 30.0, 200
"""A front end that reads the log says so again before this time is over; so many lines are sent at once at most."""

MOST_LISTED = 40


class Browser:
    """Shows a run to all its displays in front ends, by one model.

    Parameters
    ----------
    follower : Follower
        Of the run.
    early : Early or None
        Its picture, where that is ready: then it goes with the first message.

    Attributes
    ----------
    is_seen : bool
        Whether a front end has said that it shows the run.
    keeps_pages : bool
        Whether it has said, too, that the live view takes the place of the run's page, if that is in its document.
    """

    def __init__(self, follower: Follower, early: scene.Early | None = None) -> None:
        self._follower, self._run = follower, follower.run
        begun = {} if early is None else {"picture": early.picture, "states": scene.states(early.drawn)}
        self.model = Model(words.plain(self._run.graph.name, 80), self._run.id, **begun)
        self.is_seen = self.keeps_pages = False
        self._drawn: Drawing | None = None if early is None else early.drawn
        self._opened: frozenset[str] = frozenset()
        self._all_at, self._countdown = 0.0, Countdown()
        self._log_until, self._log_after = 0.0, ""
        if not Ear(self.model, self._on_click).is_early:
            self.model.hint = LATER

    @property
    def tick_s(self) -> float:
        """As of Surface: time goes on in what runs, and lines come in an open log."""
        return LOG_TICK_S if self._reads_log() else TICK_S

    def show(self, look: Look) -> None:
        """Send what is new since the last time."""
        before, self._drawn = self._drawn, self._draw(look)
        picture = self.model.picture if before is not None else scene.picture(self._drawn)
        self.model.tell(
            [scene.mark(box) for box in self._drawn.boxes],
            picture=picture,
            outline="" if picture["svg"] else outline(look.snapshot.graph, look.snapshot, look.now),
            states=scene.states(self._drawn),
            head=scene.head(look, self._drawn, self._countdown.left_s(look.snapshot, look.now)),
            rows=scene.table(look),
            aside=html.aside(look.snapshot),
        )
        if self._reads_log():
            self._send_log(look.snapshot)

    def _draw(self, look: Look) -> Drawing:
        """The boxes as they are now: those that news have touched, and now and then all, as time makes some late."""
        snapshot, now = look.snapshot, look.now
        is_full = look.touched is None or now > self._all_at + ALL_S
        if is_full:
            self._all_at = now
        if self._drawn is None:
            return drawing(snapshot.graph, snapshot, now, opened=self._opened)
        return refreshed(self._drawn, snapshot, now, None if is_full else look.touched)

    def close(self) -> None:
        """Let the front ends forget the run."""
        self.model.close()

    # --- clicks --------------------------------------------------------------------------

    def _on_click(self, message: Message) -> None:
        """Have it done. Called by whoever reads the kernel's messages, who must not wait."""
        if message["do"] == "cancel":
            # Beside the run's thread, which may be reading a large value for somebody.
            threading.Thread(target=self._do, args=(message,), daemon=True).start()
        else:
            self._follower.do(partial(self._do, message))

    def _do(self, message: Message) -> None:
        act = _ACTS.get(message["do"])
        if act is None:
            return
        try:
            act(self, message)
        except Exception as error:  # noqa: BLE001
            # Whatever it is, the click gets an answer, and the run goes on being shown.
            text = str(error) if isinstance(error, CeleryflowError) else f"{type(error).__name__}: {error}"
            self.model.send({"what": "said", "text": words.plain(text, 500)})
        self.model.send({"what": "heard", "id": message.get("id")})

    def _here(self, message: Message) -> None:
        self.is_seen, self.keeps_pages = True, message.get("keeps") is True

    def _cancel(self, message: Message) -> None:
        self._run.cancel()
        self._follower.do(self._follower.show_soon)

    def _resume(self, message: Message) -> None:
        self._run.resume()
        self._follower.show_soon()

    def _open(self, message: Message) -> None:
        self._opened = self._opened ^ {str(message.get("phase"))}
        self._drawn = None
        self._follower.show_soon()

    def _tell_all(self, message: Message) -> None:
        """A front end has missed something."""
        self.model.send({"what": "all", "states": self.model.states, "boxes": self.model.everything})

    def _follow_log(self, message: Message) -> None:
        self._log_until = time.monotonic() + LOG_LEASE_S if message.get("on") else 0.0
        if message.get("is_new"):
            self._log_after = ""
        self._follower.show_soon()

    def _reads_log(self) -> bool:
        return time.monotonic() < self._log_until

    def _send_log(self, snapshot: Snapshot) -> None:
        is_first = not self._log_after
        lines, self._log_after = self._run.log(self._log_after)
        if lines or is_first:
            said = [_line(line, snapshot) for line in lines[-LOG_LINES:]]
            left_out = len(lines) - len(said)
            self.model.send({"what": "log", "is_first": is_first, "left_out": left_out, "lines": said})

    def _details(self, message: Message) -> None:
        """Answer a click on a box, or on what the details of another one offer."""
        snapshot, item = self._run.snapshot(), message.get("item")
        nodes = [node for node in self._nodes(message) if node in snapshot.nodes]
        if len(nodes) > 1:
            said = _group(snapshot, nodes)
        elif nodes:
            said = self._run.details(nodes[0], item if isinstance(item, int) else None)
        else:
            return
        self.model.send({"what": "details", "id": message.get("id"), "html": said})

    def _nodes(self, message: Message) -> tuple[int, ...]:
        """The steps that a click is about."""
        node, box = message.get("node"), message.get("box")
        if isinstance(node, int):
            return (node,)
        boxes = self._drawn.boxes if self._drawn is not None else ()
        return boxes[box].nodes if isinstance(box, int) and 0 <= box < len(boxes) else ()


_ACTS = {
    "here": Browser._here,
    "cancel": Browser._cancel,
    "resume": Browser._resume,
    "open": Browser._open,
    "all": Browser._tell_all,
    "log": Browser._follow_log,
    "details": Browser._details,
}


def _line(line: LogLine, snapshot: Snapshot) -> list[str]:
    """Who wrote a line, what it says, and where to."""
    node = snapshot.nodes.get(line.node)
    item = f"[{line.index}]" if node is not None and node.is_map and line.index >= 0 else ""
    return [("" if node is None else words.plain(node.name, 40)) + item, words.plain(line.text, 2000), line.stream]


def _group(snapshot: Snapshot, nodes: list[int]) -> str:
    """Steps that share a box, what went wrong or runs first, each to be chosen."""
    order = {"failure": 0, "retrying": 1, "running": 2}
    records = [snapshot.record_of(node) for node in nodes]
    listed = sorted(records, key=lambda record: order.get(record.status.value, 3))[:MOST_LISTED]
    buttons = "".join(
        f'<button type="button" class="cf-pick {record.status}" data-node="{record.node.index}" data-item="">'
        f"{words.GLYPHS[record.status]} {escape(words.plain(record.node.name, 60))}</button>"
        for record in listed
    )
    more = f" and {words.number(len(nodes) - len(listed))} more" if len(nodes) > len(listed) else ""
    return f"<h4>{words.number(len(nodes))} steps</h4><p>{buttons}{more}</p>"
