"""Bodies against the catalogue's schemas, with messages in the manner of the real validator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.catalogue.workers_ai import Catalogue, Model

_LONGEST_MESSAGE = 1000
_JSON_NAMES = (
    (bool, "boolean"),
    (str, "string"),
    (int, "integer"),
    (float, "number"),
    (list, "array"),
    (dict, "object"),
)


class SchemaCheck:
    """Validators of the models that were called so far; building one takes milliseconds."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._validators: dict[str, Validator] = {}

    def check(self, model: Model, body: Any) -> None:
        """Accept `body` as input of `model`.

        Raises:
            Refusal: 5006, naming the failing path.
        """
        if model.input_schema is None:
            return
        if model.input_schema not in self._validators:
            schema = self._catalogue.schemas[model.input_schema]
            self._validators[model.input_schema] = jsonschema.Draft202012Validator(schema)
        errors = list(self._validators[model.input_schema].iter_errors(body))
        if errors:
            raise Refusal(5006, f"Bad input: Error: {_sentence(errors)}"[:_LONGEST_MESSAGE])

    def check_form(self, model: Model, fields: dict[str, str]) -> None:
        """The same for a form, whose numbers are texts.

        Raises:
            Refusal: 5006, naming the failing path.
        """
        schema = self._catalogue.input_schema(model) or {}
        known = schema.get("properties", {})
        self.check(model, {name: _typed(value, known.get(name, {})) for name, value in fields.items()})


def _typed(value: str, schema: Any) -> Any:
    """A field as the number that it should be, if it reads as one."""
    try:
        match schema.get("type"):
            case "integer":
                return int(value)
            case "number":
                return float(value)
    except ValueError:
        return value
    return value


def _sentence(errors: Iterable[jsonschema.ValidationError]) -> str:
    """Every violation once: several missing properties are one sentence but as many errors."""
    return ", ".join(dict.fromkeys(describe(error) for error in errors))


def describe(error: jsonschema.ValidationError) -> str:
    """One violation in words, for example `Type mismatch of '/stream', 'string' not in 'boolean'`."""
    path = "/" + "/".join(str(part) for part in error.absolute_path)
    wanted: Any = error.validator_value
    found: Any = error.instance
    match error.validator:
        case "oneOf" | "anyOf":
            return _alternatives(error, path)
        case "type":
            names = ", ".join(wanted) if isinstance(wanted, list) else str(wanted)
            return f"Type mismatch of '{path}', '{_json_name(found)}' not in '{names}'"
        case "required":
            missing = ", ".join(f"'{name}'" for name in wanted if name not in found)
            return f"required properties at '{path}' are {missing}"
        case "const" | "enum":
            return f"value at '{path}' is not one of {wanted if isinstance(wanted, list) else [wanted]}"
        case keyword:
            return f"{keyword} at '{path}' must be {wanted}"


def _alternatives(error: jsonschema.ValidationError, path: str) -> str:
    """None of several schemas fits (or too many): say what each misses, the likely ones alone."""
    branches: dict[Any, list[jsonschema.ValidationError]] = {}
    for inner in error.context or []:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    if not branches:
        return f"{error.validator} at '{path}' not met, more than one matches"
    likely = [found for found in branches.values() if not _other_kind(found)] or list(branches.values())
    return f"{error.validator} at '{path}' not met, 0 matches: {', '.join(map(_sentence, likely))}"


def _other_kind(errors: list[jsonschema.ValidationError]) -> bool:
    """Whether a branch fails at a tag such as `role`: then it was never meant."""
    return any(error.validator in ("const", "enum") and len(error.path) == 1 for error in errors)


def _json_name(value: Any) -> str:
    return next((name for kind, name in _JSON_NAMES if isinstance(value, kind)), "null")
