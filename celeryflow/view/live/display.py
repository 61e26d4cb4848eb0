"""An output under a cell, written anew as what it shows goes on."""

from __future__ import annotations

import secrets


class Display:
    """One output of a cell.

    Attributes
    ----------
    kept : dict of str to object
        What stands there now, by its kind.
    """

    def __init__(self) -> None:
        self._id = f"celeryflow-{secrets.token_hex(8)}"
        self.kept: dict[str, object] = {}

    def publish(self, bundle: dict[str, object]) -> None:
        """Show this; at first under the cell that is running."""
        from IPython.display import display

        if bundle != self.kept:
            is_new, self.kept = not self.kept, bundle
            display(bundle, raw=True, display_id=self._id, update=not is_new)  # type: ignore[no-untyped-call]
