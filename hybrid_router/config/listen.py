"""Where the server listens, and whether anybody else can reach that."""

from __future__ import annotations

import ipaddress
import re

MAX_PORT = 65_535
_LISTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]+)):(?P<port>\d{1,5})", re.ASCII)


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8080`, `localhost:8080` or `[::1]:8080`; port 0 means any free one.

    Raises:
        ValueError: anything else; the text says how to write it.
    """
    found = _LISTEN.fullmatch(text)
    if not found or int(found["port"]) > MAX_PORT:
        raise ValueError("write host:port, as in 127.0.0.1:8080 or [::1]:8080")
    if found["v6"] is not None:
        return str(ipaddress.IPv6Address(found["v6"])), int(found["port"])
    if re.fullmatch(r"[0-9.]+", found["name"]):
        return str(ipaddress.IPv4Address(found["name"])), int(found["port"])
    return found["name"], int(found["port"])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.  Of names, only `localhost` is trusted to mean that."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
