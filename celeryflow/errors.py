"""Every error of celeryflow: one tree, one root.

A message says what failed, on which object, what was found and what to do next.
"""

from __future__ import annotations

from difflib import get_close_matches


class CeleryflowError(Exception):
    """Root of all errors of celeryflow."""


class CeleryflowWarning(UserWarning):
    """Root of all warnings of celeryflow."""


# --- wrong use, found before anything is submitted -----------------------------------------


class WorkflowError(CeleryflowError, ValueError):
    """A workflow or step was written or called in a way that cannot work."""


class InvalidOptionError(WorkflowError):
    """An option has a value out of its range."""


class InvalidNameError(WorkflowError):
    """An explicit name or id has characters outside ``[A-Za-z0-9_.-]`` or a bad length."""


class DuplicateNameError(WorkflowError):
    """Two steps of one workflow, or two sources of one run, have the same name."""


class EmptyWorkflowError(WorkflowError):
    """The workflow's body called no step."""


class LimitError(WorkflowError):
    """There is more of something than may be; the message names the object, the limit and the way out."""


class CycleError(WorkflowError):
    """Steps depend on each other in a circle; the message holds the path."""


class ComparisonError(WorkflowError):
    """An argument of ``cf.compare`` or ``cf.sweep`` cannot be used; the message begins with its name."""


class DefinitionError(WorkflowError):
    """A workflow that is described as data cannot be read; the message names the entry at fault."""


class ConditionError(WorkflowError):
    """A condition is none, or cannot be asked of the value that is there."""


class AmbiguousTaskError(WorkflowError):
    """A name is that of several steps or tasks; the message lists them."""


class LengthMismatchError(WorkflowError):
    """Values mapped together have different lengths or keys."""


class RefError(CeleryflowError, TypeError):
    """A Ref, which stands for a value still to come, was used as the value itself; `node` is its node's index."""

    node = -1


class RefAttributeError(RefError, AttributeError):
    """An attribute of a value still to come was asked for."""


class ForeignRefError(WorkflowError):
    """A Ref of one workflow was given to a step of another."""


class ArgumentError(CeleryflowError, TypeError):
    """A step was called with arguments that it does not take."""


class SerializationError(CeleryflowError, TypeError):
    """A function, argument or result cannot be pickled; the message names the part."""


class ValueTooLargeError(CeleryflowError, ValueError):
    """A value is over its limit; the message names the object, the limit and the way out."""


class StorageError(CeleryflowError, OSError):
    """A large value could not be written where such values are kept: the disk is full, say."""


class NotInWorkflowError(CeleryflowError, RuntimeError):
    """Something that only means something inside a workflow's body or a step was used outside."""


class MissingExtraError(CeleryflowError, ImportError):
    """An optional package is needed and not installed."""


# --- looking things up ---------------------------------------------------------------------


class UnknownError(CeleryflowError, KeyError):
    """Something was asked for by a name that does not exist."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UnknownStepError(UnknownError):
    """The run has no step of that name."""


class UnknownRunError(UnknownError):
    """The server knows no run of that id."""


class UnknownTenantError(UnknownError, WorkflowError):
    """There is data for a tenant that has no configuration."""


class UnknownTaskError(UnknownError):
    """There is no step or Celery task of that name, here or with a worker; the message says what to define or start."""


class UnknownWorkflowError(UnknownError):
    """The engine has no workflow of that id."""


class UnknownExecutionError(UnknownRunError):
    """The server knows no execution of that id."""


class MissingFieldError(UnknownError):
    """A condition looks at a field that the value does not have."""


# --- how a run ended -----------------------------------------------------------------------


class RunError(CeleryflowError):
    """A run gave no result."""


class StepFailedError(RunError):
    """A step failed: `step`, `index`, `kind` and the worker's `traceback` text are attributes.

    ``__cause__`` is the original exception where it could be unpickled.
    """

    def __init__(self, message: str, step: str = "", index: int | None = None, kind: str = "", traceback: str = ""):
        super().__init__(message, step, index, kind, traceback)
        self.step, self.index, self.kind, self.traceback = step, index, kind, traceback

    def __str__(self) -> str:
        text = str(self.args[0])
        return f"{text}\n\n{self.traceback}" if self.traceback else text


class RunCancelledError(RunError):
    """The run was cancelled; the message holds the reason."""


class RunTimeoutError(RunError, TimeoutError):
    """The result did not arrive in time."""


class ResumeConflictError(RunError):
    """A run that is going on was to be resumed, or somebody else has resumed it at this moment."""


class JobConflictError(RunError):
    """A job's run is going on, with other arguments or code than it is submitted with now."""


class RunLostError(RunError):
    """The server no longer knows the run."""


class NoBranchMatchedError(CeleryflowError, ValueError):
    """No predicate of a branch held, and it has no `otherwise`."""


class TooFewResultsError(CeleryflowError, ValueError):
    """A gather got fewer results than its `min_results`; the message lists what is missing and why."""


class TooFewAnswersError(TooFewResultsError):
    """Fewer sources than needed answered in time; `sources` says of each what became of it."""

    def __init__(self, message: str, sources: dict[str, str]) -> None:
        super().__init__(message, sources)
        self.sources = sources

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownRouteError(UnknownError):
    """An item's class has no route."""


class ResultCountError(CeleryflowError, ValueError):
    """A step that takes batches returned another number of results than it got items."""


class StepTimeoutError(CeleryflowError, TimeoutError):
    """An attempt of a step ran longer than its `timeout_s`."""


class StepMemoryError(CeleryflowError, MemoryError):
    """An attempt of a step, with what it started, held more memory than its `memory_limit_bytes`."""


# --- the store and the workers ---------------------------------------------------------------


class StaleAttemptError(CeleryflowError):
    """An attempt came too late: another has taken over, and its result was not stored."""


class ServerError(CeleryflowError, ConnectionError):
    """The Redis or Valkey server cannot be used; the message says why."""


class ServerUnreachableError(ServerError):
    """No server answers at the address."""


class ServerFullError(ServerError):
    """The server answers and stores nothing more: its memory limit is reached, or its disk is full."""


class ServerTooOldError(ServerError):
    """The server is older than Redis 7.0."""


class UnsuitableServerError(ServerError):
    """The server is a replica, part of a cluster, or evicts keys; the message says what to set."""


class VersionMismatchError(CeleryflowError):
    """Client and worker differ in Python minor or celeryflow version."""


class RuntimeStartError(CeleryflowError, RuntimeError):
    """The embedded runtime could not start; the message holds the last lines of its log."""


class RegisteredOnlyError(CeleryflowError):
    """A worker of ``--registered-only`` was asked for what it does not do: code by value, or pickled values."""


class IntegrityError(CeleryflowError):
    """Something that a signature promised is missing, or is not what was signed."""


class SignatureError(IntegrityError):
    """Signed bytes were changed, moved, put back or made with another key. Nothing in them was used."""


class ConfigError(CeleryflowError, ValueError):
    """A setting cannot be used; the message names it."""


class TracingWarning(CeleryflowWarning):
    """Work seems to run while the workflow's body is traced, outside any step."""


class StaleModuleWarning(CeleryflowWarning):
    """A module that travels with a step changed on disk since its import."""


class InsecureWarning(CeleryflowWarning):
    """A server is used without TLS or without a key of its own."""


class UncheckedServerWarning(CeleryflowWarning):
    """The server does not tell this user what it is, so that nobody has seen whether runs are safe with it."""


class UnservedQueueWarning(CeleryflowWarning):
    """Steps are ready in a queue that no worker serves."""


class ComparisonWarning(CeleryflowWarning):
    """A comparison says less than it seems to: too few items, differences that do not vary, failures."""


class LargeClosureWarning(CeleryflowWarning):
    """A step carries much data with its code."""


def did_you_mean(name: str, known: list[str], what: str = "steps") -> str:
    """End of a message about an unknown name: the nearest one, and the first few that exist."""
    near = get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"{hint} Its {what}: {', '.join(known[:20])}{more}." if known else hint
