"""JSON read strictly: what it leaves open is refused (duplicate keys, NaN, integers beyond 64 bits)."""

from __future__ import annotations

import json
import math

from graftlm.errors import DataError, clip

_LARGEST_INTEGER_DIGITS = 18


def strict_decoder() -> json.JSONDecoder:
    """Return a decoder that raises `Refused` for what JSON leaves open."""
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_float
    )


class Refused(Exception):
    """Raised inside the JSON decoder, which does not know the line."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refused(f"the key {clip(twice)} occurs twice in one object", "give every key once")
    return record


def _refuse_constant(name: str) -> object:
    raise Refused(f"{name} is not JSON", "write null, or leave the row out")


def _integer(digits: str) -> int:
    if len(digits) > _LARGEST_INTEGER_DIGITS:
        raise Refused(f"the integer {clip(digits)} is too large to be kept exactly", "write it as a string")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Refused(f"the number {clip(digits)} is too large", "write it as a string")
    return number


def refuse_lone_surrogates(record: object, where: str) -> None:
    """Raise `DataError` where a string of a decoded value holds half of a surrogate pair."""
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as problem:
        code_point = f"\\u{ord(str(problem.object)[problem.start]):04x}"
        raise DataError(
            f"{code_point} is half of a surrogate pair and no character",
            where=where,
            fix="write the whole pair or the character itself; the text was probably cut inside an emoji",
        ) from None


def json_kind(value: object) -> str:
    """Return what a decoded value is, in the words of JSON."""
    kinds: dict[type, str] = {
        dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null",
    }  # fmt: skip
    return kinds.get(type(value), "a number")
