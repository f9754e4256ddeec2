"""Patterns of MQTT topics, e.g. ``pv/{park}/{device}/telemetry``: levels that name park and device, `+` and `#`."""

from __future__ import annotations

from dataclasses import dataclass

PLACES = ("park", "device")


@dataclass(frozen=True)
class Pattern:
    """A pattern, taken apart.

    Attributes
    ----------
    levels : what stands between the slashes.
    """

    levels: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises ValueError saying what is wrong with a pattern."""
        levels = tuple(text.split("/"))
        for place, level in enumerate(levels):
            if level == "#" and place != len(levels) - 1:
                raise ValueError("# may only stand at the end")
            named = level.startswith("{") and level.endswith("}")
            if named and level[1:-1] not in PLACES:
                raise ValueError(f"{level} is no place: {{park}} or {{device}}")
            if not named and level not in ("+", "#") and set(level) & set("{}+#"):
                raise ValueError(f"{level!r}: {{park}}, {{device}}, + and # stand alone between slashes")
        for name in PLACES:
            if levels.count(f"{{{name}}}") > 1:
                raise ValueError(f"names {{{name}}} twice")
        return cls(levels)

    @property
    def filter(self) -> str:
        """What to subscribe to."""
        return "/".join("+" if level.startswith("{") else level for level in self.levels)

    def names(self, place: str) -> bool:
        """Whether the topic says the `park` or the `device`."""
        return f"{{{place}}}" in self.levels

    def match(self, topic: str) -> dict[str, str] | None:
        """What the topic names, by place; None when it is another topic."""
        found = {}
        parts = topic.split("/")
        open_end = self.levels[-1] == "#"
        if len(parts) != len(self.levels) and not (open_end and len(parts) >= len(self.levels) - 1):
            return None
        for level, part in zip(self.levels, parts, strict=False):
            if level == "#":
                break
            if level.startswith("{"):
                found[level[1:-1]] = part
            elif level not in ("+", part):
                return None
        return found
