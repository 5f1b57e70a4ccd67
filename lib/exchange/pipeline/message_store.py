"""The messages that were published, on disk, for retransmission: an asset's topics in a file, found by number.

Nothing that a replay can't make again, so the file has no name and ends with the process. Two generations: when the
newer holds half of what is to be retained, the older is dropped. Memory: 8 bytes a message.
"""

import logging
import os
import tempfile
from array import array
from collections.abc import Callable
from pathlib import Path

LENGTH_BYTES = 4
READ_AHEAD = 1024  # most messages are shorter, and read with one call
LENGTHS = tuple(length.to_bytes(LENGTH_BYTES, "little") for length in range(READ_AHEAD))  # as they are written

logger = logging.getLogger(__name__)


class Generation:
    """Some messages in a file, by topic and number."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)  # noqa: PTH108 - by the name that mkstemp gave
        self.firsts: dict[str, int] = {}  # each topic's first number
        self.offsets: dict[str, array[int]] = {}  # where in the file its messages begin, from that one on
        self.count = 0
        self.size = 0  # what was added included
        self.parts: list[bytes] = []  # what is to be written: lengths and payloads in turn

    def add(self, topic: str, sequence: int, payload: bytes) -> None:
        """Add a topic's next message."""
        offsets = self.offsets.get(topic)
        if offsets is None:
            self.firsts[topic] = sequence
            offsets = self.offsets[topic] = array("Q")
        offsets.append(self.size)
        length = len(payload)
        self.parts.append(LENGTHS[length] if length < READ_AHEAD else length.to_bytes(LENGTH_BYTES, "little"))
        self.parts.append(payload)
        self.size += LENGTH_BYTES + length

    def write(self) -> None:
        self.count += len(self.parts) // 2
        data = memoryview(b"".join(self.parts))
        self.parts.clear()
        while data:
            data = data[os.write(self.file, data) :]

    def read(self, topic: str, sequence: int) -> bytes | None:
        offsets = self.offsets.get(topic)
        if offsets is None or not 0 <= (place := sequence - self.firsts[topic]) < len(offsets):
            return None
        offset = offsets[place]
        data = os.pread(self.file, LENGTH_BYTES + READ_AHEAD, offset)
        length = int.from_bytes(data[:LENGTH_BYTES], "little")
        if length > READ_AHEAD:
            data = os.pread(self.file, LENGTH_BYTES + length, offset)
        return data[LENGTH_BYTES : LENGTH_BYTES + length]

    def close(self) -> None:
        os.close(self.file)


class MessageStore:
    """The last messages of an asset's topics: at least half of `retained`, at most all of it.

    `write` must follow `add` before a message can be read. Where the disk is full, what was retained is given up: the
    venue goes on, and who asks for an older message is told that it is too old.
    """

    def __init__(self, folder: Path, retained: int) -> None:
        self.folder = folder
        self.retained = retained
        self.newest = Generation(folder)
        self.generations = [self.newest]

    @property
    def add(self) -> Callable[[str, int, bytes], None]:
        """What adds a topic's next message, given its number; good until the next `write`."""
        return self.newest.add

    def write(self) -> None:
        """Make what was added readable, and drop what is past retention."""
        try:
            self.newest.write()
        except OSError as error:
            logger.warning("%s: can't keep messages for retransmission: %s", self.folder, error)
            self._drop(len(self.generations))
        if self.newest.count * 2 >= self.retained:
            self._drop(len(self.generations) - 1)

    def _drop(self, count: int) -> None:
        for generation in self.generations[:count]:
            generation.close()
        self.newest = Generation(self.folder)
        self.generations = [*self.generations[count:], self.newest]

    def read(self, topic: str, sequence: int) -> bytes | None:
        """Return a topic's message, None where it is not retained."""
        for generation in self.generations:
            payload = generation.read(topic, sequence)
            if payload is not None:
                return payload
        return None

    def earliest(self, topic: str) -> int | None:
        """Return the number of a topic's first message that is retained, None where none is."""
        return next((each.firsts[topic] for each in self.generations if topic in each.firsts), None)

    def close(self) -> None:
        for generation in self.generations:
            generation.close()
