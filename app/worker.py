"""gunicorn's worker of threads, made so that a client that does nothing holds no thread for long."""

from __future__ import annotations

import selectors
import socket
import struct
from contextlib import suppress
from functools import partial
from typing import Any  # Any: gunicorn's connections; it ships no types

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Serves with threads, each from the first byte of a request on, and only while its client takes or sends something."""

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread once there is something to read on it.

        gunicorn would let a thread wait five seconds for the first byte: browsers open connections in advance, and a few of them with
        nothing to ask would take every thread there is.
        """
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        limit_silence(conn.sock, self.app.stalled_s)
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def handle(self, conn: Any) -> Any:
        """Answer a request; where the connection ends with it, wait here until its client hangs up, two seconds at most.

        gunicorn would wait in the thread that hands out all connections: one client that does not hang up would hold every page up.
        """
        goes_on = super().handle(conn)
        if goes_on is False:
            with suppress(OSError):
                util.close_graceful(conn.sock.dup())
                conn.sock.shutdown(socket.SHUT_RDWR)
        return goes_on


def limit_silence(connection: socket.socket, limit_s: float) -> None:
    """Let a blocking `send` or `recv` on a connection fail with BlockingIOError once its peer took or sent nothing for so long.

    The kernel's own limits: `settimeout` counts all of `sendall` together, which would cut slow lines that go on, and gunicorn resets it.
    Source:  socket(7), SO_RCVTIMEO and SO_SNDTIMEO: a part that was taken is a success
    """
    limit = struct.pack("ll", int(limit_s), int(limit_s % 1 * 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
