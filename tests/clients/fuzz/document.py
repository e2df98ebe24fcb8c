"""Reads an OpenAPI document and writes it so that schemathesis 4.32 can read it: document.py <document >document.json

A schema may have several types (`"type": ["object", "null"]`); schemathesis takes a type for a single word when the schema is
an alternative of another. Said as `anyOf` it means the same. And the schema of a stream of events is that of its text, which
schemathesis takes for that of an event; it is left out.
"""

import json
import sys


def said_otherwise(value):
    if isinstance(value, list):
        return [said_otherwise(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: said_otherwise(item) for key, item in value.items()}
    if "text/event-stream" in value:
        value["text/event-stream"] = {}
    types = value.get("type")
    if isinstance(types, list) and "anyOf" not in value:
        del value["type"]
        value["anyOf"] = [{"type": one} for one in types]
    return value


json.dump(said_otherwise(json.load(sys.stdin)), sys.stdout)
