"""Settings dataclasses out of plain values, with every wrong value named."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fedcomp.codecs import CODECS, Codec, Mode
from fedcomp.codecs.coders import Coder  # noqa: TC001  settings are read from annotations
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.mixed import Mixed, Part
from fedcomp.codecs.schedule import Schedule
from fedcomp.codecs.scheduled import Scheduled
from fedcomp.dotted import as_text
from fedcomp.errors import ConfigError, UnknownNameError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fedcomp.registry import Registry

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], path: str) -> T:
    """Make a settings dataclass of plain values, with the types and ranges it declares."""
    known = {f.name for f in fields(cls) if f.init}  # type: ignore[arg-type]
    problems = [
        f"{_join(path, key)}={value}: the key is unknown{suggest(key, known)}"
        for key, value in values.items()
        if key not in known
    ]
    given = {key: value for key, value in values.items() if key in known}
    problems += [
        f"{_join(path, f.name)}: a value is missing"
        for f in fields(cls)  # type: ignore[arg-type]
        if f.init and f.default is MISSING and f.default_factory is MISSING and f.name not in given
    ]
    problems += [
        f"{_join(path, key)}={value}: must be finite"
        for key, value in given.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    adapter = TypeAdapter(cls)
    try:
        made = adapter.validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        for detail in error.errors(include_url=False):
            if detail["type"] == "missing":
                continue
            key = _key(cls, detail["loc"])
            if detail["type"] == "value_error":
                problems.append(f"{_join(path, key)}: {detail['ctx']['error']}")
                continue
            given_text = f"{_join(path, key)}={as_text(detail['input'])}"
            found.setdefault(given_text, []).append(detail["msg"])
        problems += [f"{text}: {', or '.join(reasons)}" for text, reasons in found.items()]
    if problems:
        raise ConfigError(problems)
    return made


def build_named(registry: Registry[type[T]], values: Mapping[str, Any], path: str) -> T:
    """Make the component of a registry that `name` says, with the other values."""
    rest = dict(values)
    return build(_find(registry, str(rest.pop("name", "")), path), rest, path)


def _find(registry: Registry[T], name: str, path: str) -> T:
    try:
        return registry.get(name)
    except (ConfigError, UnknownNameError) as error:
        msg = f"{path}.name={name}: {error}"
        raise ConfigError(msg) from error


def build_codec(given: Any, path: str) -> Codec:
    """Make a codec of its name and settings; its `schedule`, and codecs within it, are made, too.

    A name alone stands for a codec with the default settings.
    """
    if not isinstance(given, str | dict):
        msg = f"{path}={as_text(given)}: is to be a codec: its name, or a name and settings"
        raise ConfigError(msg)
    values = {"name": given} if isinstance(given, str) else dict(given)
    name, schedule = str(values.pop("name", "")), values.pop("schedule", None)
    cls = _find(CODECS, name, path)
    special = {Mixed: _build_mixed, MaskedCodec: _build_masked}.get(cls)
    codec = special(values, path) if special else build(cls, values, path)
    if isinstance(schedule, dict):
        schedule = {key: value for key, value in schedule.items() if value is not None}
    return _build_scheduled(codec, values, schedule, f"{path}.schedule") if schedule else codec


@dataclass(frozen=True)
class _Masks:
    """The plain settings of a codec of masks."""

    mode: Mode = "delta"
    coder: Coder = "cabac"


def _build_masked(values: Mapping[str, Any], path: str) -> Codec:
    """Make the codec of the values within a codec of masks."""
    problems: list[str] = []
    attempt = attempting(problems)
    own = {key: value for key, value in values.items() if key != "values"}
    outer = attempt(build, _Masks, own, path) or _Masks()
    given = values.get("values", "cast")
    inner = attempt(_inner_codec, given, outer.mode, f"{path}.values")
    if problems:
        raise ConfigError(problems)
    return _checked(MaskedCodec, path, mode=outer.mode, values=inner, coder=outer.coder)


def attempting(problems: list[str]) -> Callable[..., Any]:
    """Return a function that calls another one, and notes what is wrong instead of raising it."""

    def attempt(make: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return make(*given, **named)
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    return attempt


def _inner_codec(given: Any, mode: str, path: str) -> Codec:
    """Make a codec within another one, whose mode it has unless it says otherwise."""
    named = {"name": given} if isinstance(given, str) else given
    return build_codec({"mode": mode, **named} if isinstance(named, dict) else named, path)


def _build_mixed(values: Mapping[str, Any], path: str) -> Mixed:
    """Make the codecs within a codec; they have its mode unless they say otherwise."""
    mode, parts = values.get("mode", "delta"), values.get("parts", [])
    problems = [
        f"{path}.{key}={as_text(values[key])}: the key is unknown"
        for key in values.keys() - {f.name for f in fields(Mixed)}
    ]
    attempt = attempting(problems)
    made: list[Part | None] = []
    for at, part in enumerate(parts if isinstance(parts, list) else [parts]):
        place = f"{path}.parts.{at}"
        if not isinstance(part, dict) or part.keys() != {"tensors", "codec"}:
            problems.append(f"{place}={as_text(part)}: is to have the keys tensors and codec")
            continue
        if not isinstance(part["tensors"], str):
            problems.append(f"{place}.tensors={as_text(part['tensors'])}: is to be a word")
            continue
        codec = attempt(_inner_codec, part["codec"], mode, f"{place}.codec")
        made += [attempt(_checked, Part, place, tensors=part["tensors"], codec=codec)]
    otherwise = attempt(_inner_codec, values.get("otherwise"), mode, f"{path}.otherwise")
    if problems:
        raise ConfigError(problems)
    return _checked(Mixed, path, mode=mode, parts=tuple(made), otherwise=otherwise)


def _build_scheduled(codec: Codec, values: Mapping[str, Any], schedule: Any, path: str) -> Codec:
    """Put a setting of a codec on a schedule, whose both ends must be allowed values."""
    if not isinstance(schedule, dict):
        msg = f"{path}={as_text(schedule)}: has keys such as key, shape, start and end"
        raise ConfigError(msg)
    made = build(Schedule, schedule, path)
    if not all(math.isfinite(end) for end in (made.start, made.end or 0)):
        msg = f"{path}: start and end must be finite"
        raise ConfigError(msg)
    numbers = {
        f.name
        for f in fields(codec)
        if isinstance(value := getattr(codec, f.name), int | float) and not isinstance(value, bool)
    }
    if made.key not in numbers:
        hint = suggest(made.key, numbers)
        msg = f"{path}.key={made.key}: codec {codec.name} has no such number{hint}"
        raise ConfigError(msg)
    problems = []
    for name in ("start", "end"):
        end = getattr(made, name)
        if end is None:
            continue
        whole = isinstance(getattr(codec, made.key), int) and end == math.floor(end)
        try:
            build(type(codec), {**values, made.key: int(end) if whole else end}, path)
        except ConfigError as error:
            reasons = [problem.partition(": ")[2] for problem in error.problems]
            problems += [f"{path}.{name}={end:g}: as {made.key}, {reason}" for reason in reasons]
    if problems:
        raise ConfigError(problems)
    return Scheduled.of(codec, made)


def _checked(cls: type[T], path: str, **values: Any) -> T:
    try:
        return cls(**values)
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from error


def _key(cls: type[Any], place: tuple[int | str, ...]) -> str:
    """Return where a value stands; pydantic also names the alternatives of a type."""
    annotation = next((f.type for f in fields(cls) if (f.name,) == place[:1]), "")
    alternatives = "|" in str(annotation) and "tuple" not in str(annotation)
    return ".".join(str(part) for part in (place[:1] if alternatives else place))


def _join(path: str, key: str) -> str:
    return ".".join(part for part in (path, key) if part)
