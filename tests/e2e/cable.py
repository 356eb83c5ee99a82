"""The cable between two machines, watched: who talks through it, and every frame that the near one sends."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

from router_process import soon
from two_machines import FAR, FAR_TOO, NEAR, TwoMachines

_NEAR_MAC, _FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
_ANY_KIND = 0x0003  # ETH_P_ALL, <linux/if_ether.h>
_HELD_BYTES = 8 * 2**20
_RCVBUF_BY_FORCE, _PACKET_LEVEL, _COUNTS = 33, 263, 6  # SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS
_ETHERNET_BYTES = 14
_CLOSED: Final = frozenset({"06", "07", "0A"})  # time-wait, closed, listening: <net/tcp_states.h>
FIN, SYN = 0x01, 0x02
NOBODY = "10.77.0.66"  # an address that takes what it is sent, and never says anything


class Frame(NamedTuple):
    """One frame: `tcp`, `udp`, or the number of what else it is; `flags` are TCP's."""

    kind: str
    flags: int
    payload: bytes


def introduce(machines: TwoMachines) -> None:
    """Tell both ends each other's address for good, so that neither ever asks for it."""
    ends = ((machines.near, "near", _NEAR_MAC), (machines.far, "far", _FAR_MAC))
    for machine, device, mac in ends:
        machine.ip("link", "set", device, "address", mac)
    for address in (FAR, FAR_TOO, NOBODY):
        machines.near.ip("neigh", "replace", address, "lladdr", _FAR_MAC, "dev", "near", "nud", "permanent")
    machines.far.ip("neigh", "replace", NEAR, "lladdr", _NEAR_MAC, "dev", "far", "nud", "permanent")


def connections(machines: TwoMachines) -> list[str]:
    """The near machine's connections to the far one that may still say something."""
    with machines.near.inside():
        lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    far = {socket.inet_aton(address)[::-1].hex().upper() for address in (FAR, FAR_TOO)}
    fields = [line.split() for line in lines]
    return [" ".join(one[1:4]) for one in fields if one[2][:8] in far and one[3] not in _CLOSED]


async def hung_up(machines: TwoMachines) -> None:
    """Wait until no connection goes through the cable any more."""
    await soon(lambda: not connections(machines), "every connection closed")


class Tap:
    """Every frame that the near machine sends from now on, as the kernel hands it to the cable."""

    def __init__(self, machines: TwoMachines) -> None:
        with machines.near.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ANY_KIND))
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUF_BY_FORCE, _HELD_BYTES)
        self._socket.bind(("near", _ANY_KIND))
        self._socket.setblocking(False)

    def frames(self) -> list[Frame]:
        """What was sent since it was asked last."""
        found = []
        while True:
            try:
                frame, address = self._socket.recvfrom(2**17)
            except BlockingIOError:
                break
            if address[2] == socket.PACKET_OUTGOING:
                found.append(_parsed(frame))
        _, lost_count = struct.unpack("II", self._socket.getsockopt(_PACKET_LEVEL, _COUNTS, 8))
        assert not lost_count, "the tap could not keep up"
        return found

    def close(self) -> None:
        """Watch no more."""
        self._socket.close()


def _parsed(frame: bytes) -> Frame:
    """RFC 791, 9293 and 768."""
    (kind,) = struct.unpack("!H", frame[12:_ETHERNET_BYTES])
    if kind != 0x0800:
        return Frame(hex(kind), 0, b"")
    packet = frame[_ETHERNET_BYTES:]
    (whole_count,) = struct.unpack("!H", packet[2:4])
    inner = packet[4 * (packet[0] & 15) : whole_count or len(packet)]
    if packet[9] == socket.IPPROTO_TCP:
        return Frame("tcp", inner[13], inner[4 * (inner[12] >> 4) :])
    if packet[9] == socket.IPPROTO_UDP:
        return Frame("udp", 0, inner[8:])
    return Frame(f"protocol {packet[9]}", 0, inner)
