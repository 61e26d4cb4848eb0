"""How a command ends: its exit code, and errors in a line."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

from celeryflow import errors
from celeryflow.cli import act, collect, look, serve  # noqa: F401 - they register their commands
from celeryflow.cli.base import DONE, NO_SERVER, RUN_FAILED, WRONG_USE, cli, say
from celeryflow.masking import masked


def run(arguments: Sequence[str] | None) -> int:
    """Run a command and give its exit code; an interrupt is raised."""
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            return cli.main(arguments, prog_name="celeryflow", standalone_mode=False) or DONE
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            raise KeyboardInterrupt from None
        except errors.CeleryflowError as error:
            say(f"celeryflow: {masked(str(error))}")
            return _code_of(error)
        except Exception:  # noqa: BLE001 - a fault of ours, whose text may hold an address
            say(masked(traceback.format_exc()))
            return RUN_FAILED


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"celeryflow: {message}")


def _code_of(error: errors.CeleryflowError) -> int:
    if isinstance(error, errors.ServerError | errors.RuntimeStartError | errors.RunLostError):
        return NO_SERVER
    wrong_use = errors.UnknownError, errors.ConfigError, errors.WorkflowError, errors.MissingExtraError
    return WRONG_USE if isinstance(error, wrong_use) else RUN_FAILED
