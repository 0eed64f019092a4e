"""How a value is told from others that look like it.

A value's type is written beside it, because files have fewer types than values: a truth
value is not the number one, and a float that is no number is not an absent value.
"""

from __future__ import annotations

from typing import Final


class _ValueTypes(dict[type, str]):
    """Remembers the word of each type, so that looking it up costs next to nothing."""

    def __missing__(self, kind: type) -> str:
        """Let a subclass count as what it derives from."""
        for known, word in tuple(self.items()):
            if issubclass(kind, known):
                self[kind] = word
                return word
        raise TypeError(f"a sample's value cannot be a {kind.__name__}")


VALUE_TYPES: Final = _ValueTypes(
    {bool: "bool", float: "float", int: "int", str: "text", type(None): "none"}
)
"""The word for each type of value. Looking up any other type raises TypeError."""
