"""The name in a Host header."""

from __future__ import annotations


def host_name(header: str) -> str | None:
    """The name in a Host header, lower case, its port left out; None if it is not one.

    Nothing is forgiven: no user, no spaces, no trailing dot, so what is compared is what was sent.
    """
    name, colon, port = header.rpartition(":")
    if not colon or header.endswith("]"):
        name = header
    elif not (port.isascii() and port.isdigit()):
        return None
    if name[:1] == "[" and name[-1:] == "]":
        return name[1:-1].lower()
    return None if ":" in name else name.lower()
