"""The messages that were published, on disk, for retransmission: an asset's topics in a file, found by number.

Nothing that a replay can't make again, so the file has no name and ends with the process. Two generations: when the
newer holds half of what is to be retained, the older is dropped. Memory: 8 bytes a message.
"""

import logging
import os
import tempfile
from array import array
from pathlib import Path

LENGTH_BYTES = 4
READ_AHEAD = 1024  # most messages are shorter, and read with one call

logger = logging.getLogger(__name__)


class Generation:
    """Some messages in a file, by topic and number."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)  # noqa: PTH108 - by the name that mkstemp gave
        self.topics: dict[str, tuple[int, array[int]]] = {}  # topic: first number, offsets from it on
        self.count = 0
        self.size = 0
        self.buffer: list[bytes] = []

    def add(self, topic: str, sequence: int, payload: bytes) -> None:
        known = self.topics.get(topic)
        if known is None:
            known = self.topics[topic] = (sequence, array("Q"))
        known[1].append(self.size)
        self.buffer.append(len(payload).to_bytes(LENGTH_BYTES, "little"))
        self.buffer.append(payload)
        self.size += LENGTH_BYTES + len(payload)
        self.count += 1

    def write(self) -> None:
        if self.buffer:
            data = memoryview(b"".join(self.buffer))
            self.buffer.clear()
            while data:
                data = data[os.write(self.file, data) :]

    def read(self, topic: str, sequence: int) -> bytes | None:
        known = self.topics.get(topic)
        if known is None or not 0 <= sequence - known[0] < len(known[1]):
            return None
        offset = known[1][sequence - known[0]]
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
        self.generations = [Generation(folder)]

    def add(self, topic: str, sequence: int, payload: bytes) -> None:
        """Add a topic's next message."""
        self.generations[-1].add(topic, sequence, payload)

    def write(self) -> None:
        """Make what was added readable, and drop what is past retention."""
        newest = self.generations[-1]
        try:
            newest.write()
        except OSError as error:
            logger.warning("%s: can't keep messages for retransmission: %s", self.folder, error)
            self._drop(len(self.generations))
        if newest.count * 2 >= self.retained:
            self._drop(len(self.generations) - 1)

    def _drop(self, count: int) -> None:
        for generation in self.generations[:count]:
            generation.close()
        self.generations = [*self.generations[count:], Generation(self.folder)]

    def read(self, topic: str, sequence: int) -> bytes | None:
        """Return a topic's message, None where it is not retained."""
        for generation in self.generations:
            payload = generation.read(topic, sequence)
            if payload is not None:
                return payload
        return None

    def earliest(self, topic: str) -> int | None:
        """Return the number of a topic's first message that is retained, None where none is."""
        return next((each.topics[topic][0] for each in self.generations if topic in each.topics), None)

    def close(self) -> None:
        for generation in self.generations:
            generation.close()
