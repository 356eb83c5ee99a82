"""Host names, with and without a port."""

from __future__ import annotations

HIGHEST_PORT = 65_535


def host_and_port(listen: str) -> tuple[str, int]:
    """Split `127.0.0.1:8080` or `[::1]:8080`.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise ValueError(f"{listen!r} is not host:port, as in 127.0.0.1:8080 or [::1]:8080")
    return host.removeprefix("[").removesuffix("]").lower(), int(port)


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
