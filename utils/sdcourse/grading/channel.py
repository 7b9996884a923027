"""Frames over a pair of pipes between the grader and a room: one letter, the length, the bytes.

Both ends were opened before any code of a learner ran, so there is no path that could be a link, and nothing to wait for
that is not bounded in bytes; how long to wait is said by whoever receives.
"""

import contextlib
import queue
import struct
import threading

HEAD = struct.Struct("<cQ")
MAX_FRAME = 32 * 2**20
FILES, RUN, CALL, LOOK = b"F", b"R", b"C", b"L"  # to the room
READY, OUTPUT, ANSWER, IDLE = b"Y", b"O", b"A", b"I"  # from the room


class Closed(Exception):
    """Nothing more comes: the other end is gone, or what it sent is no frame."""


def write_frame(file, kind: bytes, payload: bytes = b"") -> None:
    """Write one frame to a binary file; raise Closed if nobody reads it."""
    try:
        file.write(HEAD.pack(kind, len(payload)))
        file.write(payload)
        file.flush()
    except (OSError, ValueError):
        raise Closed from None


def read_frame(file, *, most: int = MAX_FRAME) -> tuple[bytes, bytes]:
    """Return (kind, payload) of the next frame; raise Closed at the end, or where a frame is longer than ``most``."""
    kind, length = HEAD.unpack(_exactly(file, HEAD.size))
    if length > most:
        raise Closed
    return kind, _exactly(file, length)


def _exactly(file, count: int) -> bytes:
    try:
        data = file.read(count)
    except (OSError, ValueError):
        raise Closed from None
    if len(data) < count:
        raise Closed
    return data


class Channel:
    """The grader's end: a thread reads ahead, by two frames at most, and a thread writes."""

    def __init__(self, to_room, from_room):
        self.to_room, self.from_room = to_room, from_room
        self.came: queue.Queue = queue.Queue(maxsize=2)
        self.to_send: queue.Queue = queue.Queue()
        self.closed = False
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a frame, without waiting until it is read."""
        self.to_send.put((kind, payload))

    def receive(self, seconds: float) -> tuple[bytes, bytes]:
        """Return the next frame; raise queue.Empty if none comes in time, Closed if none will come."""
        if self.closed and self.came.empty():
            raise Closed
        frame = self.came.get(timeout=seconds)
        if frame is None:
            self.closed = True
            raise Closed
        return frame

    def close(self) -> None:
        """Close both pipes and let the threads end (call it when the other end is gone)."""
        self.closed = True
        self.to_send.put(None)
        with contextlib.suppress(queue.Empty):
            while True:
                self.came.get_nowait()
        for file in (self.to_room, self.from_room):
            with contextlib.suppress(OSError, ValueError):
                file.close()

    def _read(self) -> None:
        with contextlib.suppress(Closed):
            while not self.closed:
                frame = read_frame(self.from_room)
                self.came.put(frame)
        with contextlib.suppress(queue.Full):
            self.came.put(None, timeout=5)

    def _write(self) -> None:
        with contextlib.suppress(Closed):
            while (frame := self.to_send.get()) is not None:
                write_frame(self.to_room, *frame)


class Tail:
    """Reads all that a process says on a pipe, and keeps the end of it."""

    def __init__(self, pipe, *, bytes_kept: int = 4000):
        self.pipe, self.kept, self.last = pipe, bytes_kept, b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := self.pipe.read1(65536):
                self.last = (self.last + data)[-self.kept :]
        with contextlib.suppress(OSError, ValueError):
            self.pipe.close()

    def text(self) -> str:
        """Return the end of what was said, in one line, once nothing more comes (for a second at most)."""
        self.thread.join(1)
        return " ".join(self.last.decode("utf-8", "replace").split())
