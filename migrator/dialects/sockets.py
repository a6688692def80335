"""Making this end of a connection notice that the other one is gone, whatever the database."""

from __future__ import annotations

import os
import socket

KEEPALIVE_SECONDS, KEEPALIVE_PROBES = 5, 2
"""Idle time before and between TCP probes: a silent partition ends after about 15 s (measured)."""

UNANSWERED_MILLISECONDS = KEEPALIVE_SECONDS * (KEEPALIVE_PROBES + 1) * 1000
"""How long sent bytes may stay unacknowledged. Probes begin only when there are none: a statement whose result
was sent into a partition kept its session on PostgreSQL, and the lock, for more than 70 s (measured; by default
15 min)."""


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
                ("TCP_USER_TIMEOUT", UNANSWERED_MILLISECONDS),
            ):
                if hasattr(socket, option):
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    except OSError:
        return
