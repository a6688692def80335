"""Making this end of a connection notice that the other one is gone, whatever the database."""

from __future__ import annotations

import os
import socket

KEEPALIVE_SECONDS, KEEPALIVE_PROBES = 5, 2
"""Idle time before and between TCP probes: a silent partition ends after about 15 s (measured)."""


def watch(descriptor: int) -> None:
    """Set keepalive and ``TCP_USER_TIMEOUT`` on a TCP socket; does nothing to any other, and never raises.

    A driver without a socket of its own loses this precaution, nothing else.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as peer:
            if peer.family not in (socket.AF_INET, socket.AF_INET6):
                return
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
                ("TCP_KEEPINTVL", KEEPALIVE_SECONDS),
                ("TCP_KEEPCNT", KEEPALIVE_PROBES),
                ("TCP_USER_TIMEOUT", KEEPALIVE_SECONDS * (KEEPALIVE_PROBES + 1) * 1000),
            ):
                if hasattr(socket, option):
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    except OSError:
        return
