"""The command `aws`, as far as documented lines need it.

Calls go to AWS_ENDPOINT_URL; without one they are checked against the SDK's model and answered with nothing.
Options are checked by the SDK, as AWS's own command does, which is too large for a test.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jmespath
from botocore import xform_name
from botocore.model import ListShape, Shape, StructureShape
from botocore.session import get_session
from botocore.validate import ParamValidator

_REGION = "eu-central-1"
_FLAGS = {"--query", "--output"}


def _options(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Return each option with its values."""
    starts = [place for place, word in enumerate(words) if word.startswith("--")]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        yield words[start], list(words[start + 1 : end])


def _value(shape: Shape, texts: Sequence[str]) -> Any:  # noqa: ANN401 - of any type of the SDK
    """Return the value of an option: JSON of a file or of the line, shorthand, or as it stands."""
    text = texts[0]
    if text.startswith("file://"):
        text = Path(text.removeprefix("file://")).read_text()
        return text if shape.type_name == "string" else json.loads(text)
    if shape.type_name in ("list", "structure") and text[:1] in ("[", "{"):
        return json.loads(text)
    if isinstance(shape, ListShape):
        return [_value(shape.member, [each]) for each in texts]
    if isinstance(shape, StructureShape):
        return _shorthand(shape, text)
    return int(text) if shape.type_name in ("integer", "long") else text


def _shorthand(shape: StructureShape, text: str) -> dict[str, Any]:
    """Parse `Name=status,Values=a,b`."""
    assert not re.search(r"=[\[{'\"]", text), f"AWS's command reads this in another way: {text}"
    parts = re.split(r",(?=\w+=)", text)
    members = (part.partition("=") for part in parts)
    return {
        key: value.split(",") if isinstance(shape.members[key], ListShape) else value
        for key, _, value in members
    }


def _call(service: str, operation: str, options: dict[str, list[str]]) -> dict[str, Any]:
    session = get_session()
    waiters = session.get_waiter_model(service) if operation == "wait" else None
    waited_for = _camel(next(iter(options)))
    method = waiters.get_waiter(waited_for).operation if waiters else _camel(operation)
    shape = session.get_service_model(service).operation_model(method).input_shape
    members = {xform_name(name, "-"): name for name in shape.members}
    given = {members[key.removeprefix("--")]: texts for key, texts in options.items() if key.startswith("--")}
    parameters = {name: _value(shape.members[name], texts) for name, texts in given.items()}
    problems = ParamValidator().validate(parameters, shape)
    if problems.has_errors():
        sys.exit(problems.generate_report())
    if not os.environ.get("AWS_ENDPOINT_URL"):
        return {}
    keys = {"aws_access_key_id": "AKIAOPERATOR", "aws_secret_access_key": "secret"}
    client = session.create_client(service, region_name=_REGION, **keys)
    if waiters:
        client.get_waiter(xform_name(waited_for)).wait(**parameters)
        return {}
    answer: dict[str, Any] = getattr(client, xform_name(method))(**parameters)
    answer.pop("ResponseMetadata")
    return answer


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def _as_text(value: Any) -> str:  # noqa: ANN401 - of any type of JSON
    """Write a result as `--output text` does: a line for each row, None for nothing."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "\n".join(_as_text(row) for row in value)
    if isinstance(value, list):
        return "\t".join(_as_text(each) for each in value)
    return str(value)


def main(words: Sequence[str]) -> None:
    """Make the call and print its result."""
    service, operation, *rest = words
    chosen: dict[str, list[str]] = {}
    if operation == "wait":
        chosen[rest.pop(0)] = []
    chosen |= dict(_options(rest))
    shown = {flag: chosen.pop(flag)[0] for flag in _FLAGS & set(chosen)}
    result: Any = _call(service, operation, chosen)
    if "--query" in shown:
        result = jmespath.search(shown["--query"], result)
    if result not in ({}, None):
        is_text = shown.get("--output") == "text"
        sys.stdout.write(f"{_as_text(result) if is_text else json.dumps(result, indent=4, default=str)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
