"""JSON schemas that every client understands: no `$ref`, no unions but nullable, no titles that repeat the name."""

from __future__ import annotations

from typing import Any, cast

Schema = dict[str, Any]

EVERYWHERE = ("reason", "command", "note")
"""What any answer may hold: why something is not available, what would compute it, how to read the numbers."""


def flat_output(schema: Schema) -> Schema:
    """The schema of a result, one level deep.

    A value that may be null is not listed, since clients that know one type per value refuse two; nor is spelled out
    what rows hold and what every answer may have (`EVERYWHERE`): the lists of 20 tools would fill a client's context
    before the first question. Answers may hold more than their schema names.
    """
    flat = _flat(schema, schema.get("$defs", {}), nullable=True)
    listed = {name: each for name, each in flat["properties"].items() if name not in EVERYWHERE and "anyOf" not in each}
    return flat | {"properties": {name: {"type": each["type"]} for name, each in listed.items()}}


def flat_input(schema: Schema) -> Schema:
    """The schema of a tool's arguments: what may be left out need not be null too, and nothing else is allowed."""
    flat = _flat(schema, schema.get("$defs", {}), nullable=False)
    return flat | {"additionalProperties": False}


def _flat(node: Any, definitions: Schema, *, nullable: bool) -> Any:
    if isinstance(node, list):
        return [_flat(item, definitions, nullable=nullable) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    found = cast("Schema", node)
    if "$ref" in found:
        return _flat(definitions[found["$ref"].rpartition("/")[2]], definitions, nullable=nullable)
    flat: Schema = {}
    for key, value in found.items():
        if key == "properties":
            flat[key] = {name: _flat(each, definitions, nullable=nullable) for name, each in value.items()}
        elif key == "anyOf":
            flat |= _without_union(value, definitions, nullable=nullable)
        elif key not in ("$defs", "title") and not (key == "default" and value in (None, "")) and key != "description":
            flat[key] = _flat(value, definitions, nullable=nullable)
    if "description" in found and not nullable:  # what results mean is said once, in the tool's description
        flat["description"] = found["description"]
    return flat


def _without_union(branches: list[Schema], definitions: Schema, *, nullable: bool) -> Schema:
    """`anyOf` of one type and null: as that type where null need not be said, else without what its rows hold.

    Raises:
        TypeError: a union of several types, which a tool must not have.
    """
    real = [branch for branch in branches if branch.get("type") != "null"]
    if len(real) != 1:
        raise TypeError(f"a tool's schema has a union: {branches}")
    schema: Schema = _flat(real[0], definitions, nullable=nullable)
    return {"anyOf": [{"type": schema["type"]}, {"type": "null"}]} if nullable else schema
