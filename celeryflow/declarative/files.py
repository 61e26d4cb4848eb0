"""Workflows in JSON and YAML files: read, checked entry by entry, and written.

A file holds one workflow, ``{"workflow_id": …, "steps": [{"name": …, "task_name": …, …}, …]}``, or several of them in
a list under ``workflows``. A step's entries are the parameters of `WorkflowStep`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeryflow.declarative.definition import Definition, define
from celeryflow.declarative.model import WorkflowStep
from celeryflow.declarative.resolve import resolve
from celeryflow.errors import CeleryflowError, DefinitionError, did_you_mean

if TYPE_CHECKING:
    from celeryflow.declarative.engine import WorkflowEngine

_WORKFLOW, _MANY = ("workflow_id", "steps"), "workflows"
_FIELDS = {field.name: field for field in dataclasses.fields(WorkflowStep)}
_REQUIRED = ("name", "task_name")


class Loader:
    """``load``: of the class it makes an engine, of an engine it adds to it."""

    def __get__(self, engine: WorkflowEngine | None, kind: type[WorkflowEngine]) -> Callable[[Any], WorkflowEngine]:
        def load(path: Any) -> WorkflowEngine:
            """Read the workflows of a ``.json``, ``.yaml`` or ``.yml`` file, all or none.

            Parameters
            ----------
            path : path
                The file.

            Returns
            -------
            WorkflowEngine
                With these workflows: a new one, or the one that this is called on.

            Raises
            ------
            DefinitionError
                If the file cannot be read, naming the entry at fault.
            WorkflowError, UnknownError, ArgumentError
                As of ``register_workflow``.
            """
            found = read(path)
            for definition in found:
                resolve(definition)
            target = kind() if engine is None else engine
            target.definitions.update({definition.id: definition for definition in found})
            return target

        return load


def read(path: Any) -> list[Definition]:
    """The workflows of a file."""
    file = _path(path)
    parse, _, kind = _form(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{file} cannot be read: {error}.") from error
    try:
        data = parse(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{file} is no {kind}: {error}") from error
    return _definitions(data, str(file))


def _definitions(data: Any, where: str) -> list[Definition]:
    entry = _mapping(data, where, (*_WORKFLOW, _MANY))
    if _MANY not in entry:
        return [_definition(entry, where)]
    entries = entry[_MANY]
    if len(entry) > 1 or not _is_list(entries) or not entries:
        raise DefinitionError(f"{where}: {_MANY} must be a list of at least one workflow, and stand alone.")
    found = [_definition(one, f"{where}: {_MANY}[{i}]") for i, one in enumerate(entries)]
    ids = [definition.id for definition in found]
    twice = next((i for i, name in enumerate(ids) if name in ids[:i]), None)
    if twice is not None:
        raise DefinitionError(f"{where}: {_MANY}[{twice}] has the id {ids[twice]!r} of an earlier one.")
    return found


def _definition(data: Any, where: str) -> Definition:
    entry = _mapping(data, where, _WORKFLOW)
    for name in _WORKFLOW:
        if name not in entry:
            raise DefinitionError(f"{where} has no {name}.")
    if not _is_list(entry["steps"]):
        raise DefinitionError(f"{where}: steps must be a list, not {entry['steps']!r:.200}.")
    steps = [_step(one, f"{where}: steps[{i}]") for i, one in enumerate(entry["steps"])]
    try:
        return define(entry["workflow_id"], steps)
    except CeleryflowError as error:
        raise type(error)(f"{where}: {error}") from error


def _step(data: Any, where: str) -> WorkflowStep:
    entry = _mapping(data, where, tuple(_FIELDS))
    for name in _REQUIRED:
        if name not in entry:
            raise DefinitionError(f"{where} has no {name}.")
    return WorkflowStep(**{"parameters": {}, **entry})


def _mapping(data: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise DefinitionError(f"{where} must have entries {', '.join(known)}, and is {data!r:.200}.")
    unknown = [key for key in data if key not in known]
    if unknown:
        hint = did_you_mean(str(unknown[0]), [*known], "entries")
        raise DefinitionError(f"{where} has an unknown entry {unknown[0]!r}.{hint}")
    return data


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


# --- writing ---------------------------------------------------------------------------------


def save(path: Any, definitions: Iterable[Definition]) -> None:
    """Write workflows to a file, which appears whole or not at all."""
    file, entries = _path(path), [_written(definition) for definition in definitions]
    if not entries:
        raise DefinitionError(f"there is no workflow to save in {file}. Register one first.")
    text = _form(file)[1](entries[0] if len(entries) == 1 else {_MANY: entries})
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, file)  # noqa: PTH105 - the same as Path.replace
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise DefinitionError(f"{file} cannot be written: {error}.") from error


def _written(definition: Definition) -> dict[str, Any]:
    steps = []
    for step in definition.steps.values():
        said = {name: getattr(step, name) for name in _FIELDS if name != "parameters" or step.parameters}
        where = f"of step {step.name!r} of workflow {definition.id!r}"
        steps.append({k: _plain(v, f"{k} {where}") for k, v in said.items() if v != _FIELDS[k].default})
    return {"workflow_id": definition.id, "steps": steps}


def _plain(value: Any, where: str) -> Any:
    """A value as JSON has it, tuples as lists."""
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise DefinitionError(
        f"{where} is {value!r:.100} ({type(value).__name__}), which a file cannot hold. Make it of dicts with names, "
        "lists, text, finite numbers, booleans and None."
    )


# --- the two forms ---------------------------------------------------------------------------


def _path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise DefinitionError(f"a workflow is read from and written to a path, not {path!r:.200}.")
    return Path(path)


def _form(file: Path) -> tuple[Callable[[str], Any], Callable[[Any], str], str]:
    forms = {".json": (_from_json, _to_json, "JSON"), ".yaml": _YAML, ".yml": _YAML}
    try:
        return forms[file.suffix.lower()]
    except KeyError:
        raise DefinitionError(f"{file} must end in {', '.join(forms)}, which say how it is written.") from None


def _from_json(text: str) -> Any:
    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is no number.")

    return json.loads(text, object_pairs_hook=_unique, parse_constant=no_constant)


def _to_json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _unique(pairs: Iterable[tuple[Hashable, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the entry {key!r} stands there twice.")
        found[key] = value
    return found


def _from_yaml(text: str) -> Any:
    import yaml

    class Unique(yaml.SafeLoader):
        """Of two equal keys, yaml would let the last one win."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
            if twice is not None:
                raise ValueError(f"the entry {twice!r} stands there twice,{node.start_mark}")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Unique)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _to_yaml(data: Any) -> str:
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


_YAML = (_from_yaml, _to_yaml, "YAML")
