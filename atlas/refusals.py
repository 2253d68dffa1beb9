"""Say what is wrong with params.yaml in the words of a person who has to mend it."""

from pydantic import ValidationError

__all__ = ["explain"]


def explain(error: ValidationError) -> str:
    """Return a line for every key that is unknown or out of range, with what came."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"params: unknown key {key!r}: remove it or correct its spelling")
            continue
        said = item["msg"].removeprefix("Value error, ")
        if item["type"] != "value_error":  # those raised here name what came themselves
            said = f"{said}; got {item['input']!r}"
        lines.append(f"params: {key}: {said}"[:300] if key else f"params: {said}"[:300])
    return "\n".join(lines)
