"""What a value should have been, in words, where pydantic would speak of Python's types or of its own steps."""

from typing import Any

WANTED = {
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "dataclass_type": "give a section, keys with values",
    "dict_type": "give keys with values",
    "extra_forbidden": "is an unknown key",
    "list_type": "give a list",
    "model_type": "give keys with values",
    "string_pattern_mismatch": "is not of the form that is written there",
    "tuple_type": "give a list",
    "unexpected_keyword_argument": "is an unknown key",
}


def rule_of(error: Any) -> str:
    """Of one of the problems of a ValidationError."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "too_short":
        return f"give at least {context['min_length']}"
    if kind == "too_long":
        return f"give at most {context['max_length']:,}"
    if kind == "value_error":
        return str(context["error"])
    return WANTED.get(kind) or str(error["msg"]).lower()
