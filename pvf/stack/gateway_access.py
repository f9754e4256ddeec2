"""Which parks each caller may see, as the services behind the gateway read it: a pure function of the keys.

The gateway names the caller in `x-client-id`: the client, or client#key-id for a key that is limited. The table says
what each of them sees; who is not in it sees nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from pvf.stack.api_keys import Key

EVERYTHING = "*"
PLATFORM = "_platform"
"""Our own services, which check on behalf of their callers. No client's name begins like that."""

Members = Callable[[], Mapping[str, Collection[str]]]
"""Group -> ids of its parks, as registered now."""


def table(keys: Mapping[str, Sequence[Key]], members: Mapping[str, Collection[str]]) -> dict[str, str | list[str]]:
    """{caller: [park ids] | "*"}. A group without members gives nothing."""
    found: dict[str, str | list[str]] = {PLATFORM: EVERYTHING}
    for client, of_client in keys.items():
        for key in of_client:
            of_groups = {park for group in key.groups for park in members.get(group, ())}
            found[key.principal(client)] = sorted({*key.parks, *of_groups}) if key.limited else EVERYTHING
    return found


def groups(keys: Mapping[str, Sequence[Key]]) -> set[str]:
    """The groups that keys name."""
    return {group for of_client in keys.values() for key in of_client for group in key.groups}
