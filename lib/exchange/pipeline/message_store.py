"""The messages that were published, on disk, for retransmission: an asset's topics in a row of chunks, found by number.

Nothing that a replay can't make again: what is damaged is given up, and who asks for it is told that it is too old.
The files outlive the process. Who has kept the store's place (`place`) goes on from there with all that was retained
then (`go_on`); what was added since is cut off, and added again by who folds the same events again.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from exchange.pipeline.disk import Disk
from exchange.pipeline.message_chunk import (
    Chunk,
    ChunkPlace,
    DamagedChunk,
    FullChunk,
    GrowingChunk,
    index_path,
    messages_path,
    numbers,
    remove,
)

CHUNKS = 16  # that what is retained is in, about
MOST_CHUNK_BYTES = 2**30  # from which a chunk is full too: offsets are 32 bits

logger = logging.getLogger(__name__)


class MessageStore:
    """The last messages of an asset's topics: at least half of `retained`, at most all of it and one `write` more.

    A new one is empty; before the first `write` either `clear` or `go_on` says what becomes of files that are there.
    `write` must follow `add` before a message can be read. Where the disk is full, what was retained is given up: the
    venue goes on, and who asks for an older message is told that it is too old. Memory: 4 bytes for each message of the
    newest chunk; of the others, 4 bytes a block, and the topics' names and first numbers.
    """

    def __init__(self, disk: Disk, folder: Path, retained: int) -> None:
        self.disk = disk
        self.folder = folder
        self.retained = retained
        self.chunk_messages = max(retained // CHUNKS, 1)
        self.full: list[FullChunk] = []
        self.newest = GrowingChunk(disk, folder, 1)
        self.open: FullChunk | None = None  # the one whose files are open

    # -- write ---------------------------------------------------------------------------------------------------------

    @property
    def add(self) -> Callable[[str, int, bytes], None]:
        """What adds a topic's next message, given its number; good until the next `write`."""
        return self.newest.add

    def write(self) -> None:
        """Make what was added readable, and drop what is past retention."""
        newest = self.newest
        if not newest.parts:
            return
        try:
            newest.write()
            if newest.count >= self.chunk_messages or newest.size >= MOST_CHUNK_BYTES:
                self.full.append(newest.fill())
                self.newest = GrowingChunk(self.disk, self.folder, newest.number + 1)
                self._retain()
        except OSError as error:
            logger.warning("%s: can't keep messages for retransmission: %s", self.folder, error)
            self._give_up()

    def _retain(self) -> None:
        """Drop the oldest chunks that are not needed to retain half of what may be."""
        kept = sum(chunk.count for chunk in self.full)
        while kept + self.chunk_messages > self.retained and (kept - self.full[0].count) * 2 >= self.retained:
            kept -= self.full[0].count
            self._drop(1)

    def _drop(self, count: int) -> None:
        """Drop the oldest full chunks."""
        for chunk in self.full[:count]:
            chunk.close()
            remove(self.disk, self.folder, chunk.number)
        del self.full[:count]

    def _give_up(self) -> None:
        """Drop all there is and begin anew."""
        number = self.newest.number
        self._drop(len(self.full))
        self.newest.close()
        remove(self.disk, self.folder, number)
        self.newest = GrowingChunk(self.disk, self.folder, number + 1)

    # -- read ----------------------------------------------------------------------------------------------------------

    def read(self, topic: str, sequence: int) -> bytes | None:
        """Return a topic's message, None where it is not retained."""
        for chunk in reversed(self._oldest_first()):
            try:
                payload = chunk.read(topic, sequence)
            except (DamagedChunk, OSError) as error:
                logger.warning("%s: %s: given up, with all before it", messages_path(self.folder, chunk.number), error)
                self._drop_through(chunk)
                return None
            if payload is not None:
                if chunk is not self.open and isinstance(chunk, FullChunk):
                    if self.open is not None:
                        self.open.close()
                    self.open = chunk
                return payload
        return None

    def _oldest_first(self) -> list[Chunk]:
        return [*self.full, self.newest]

    def _drop_through(self, chunk: Chunk) -> None:
        """Drop a chunk and all before it: what is retained of a topic has no gap."""
        if isinstance(chunk, FullChunk):
            self._drop(self.full.index(chunk) + 1)
        else:
            self._give_up()

    def earliest(self, topic: str) -> int | None:
        """Return the number of a topic's first message that is retained, None where none is."""
        for chunk in self._oldest_first():
            first = chunk.first(topic)
            if first is not None:
                return first
        return None

    # -- what outlives the process -------------------------------------------------------------------------------------

    @property
    def place(self) -> ChunkPlace:
        """Where the store is, all that was added being written. It can be gone on from once `sync` has returned."""
        return self.newest.place

    def sync(self) -> None:
        """Have all that was written on disk. Raises OSError where the newest chunk is not there any more.

        May be called in a copy of the process, while the process itself goes on.
        """
        if self.newest.count:
            self._sync(messages_path(self.folder, self.newest.number))
        for chunk in self.full:
            try:
                self._sync(messages_path(self.folder, chunk.number))
                self._sync(index_path(self.folder, chunk.number))
            except FileNotFoundError:
                pass  # past retention meanwhile
        if self.newest.count or self.full:
            self.disk.sync_folder(self.folder)

    def _sync(self, path: Path) -> None:
        file = self.disk.open(path)
        try:
            self.disk.sync(file)
        finally:
            self.disk.close(file)

    def go_on(self, place: ChunkPlace) -> bool:
        """Go on from a place: have what was retained there, and cut off what was added since.

        Returns False, changing nothing on disk, where the newest chunk of then is not whole any more. Of those before
        it, what is left without a gap is kept; the rest is dropped, and logged.
        """
        newest = GrowingChunk(self.disk, self.folder, place.number)
        try:
            newest.go_on(place)
        except (DamagedChunk, OSError) as error:
            newest.close()
            logger.warning("%s: %s", messages_path(self.folder, place.number), error)
            return False
        self.newest = newest
        self.full = self._without_gap(place)
        kept = {chunk.number for chunk in self.full} | ({place.number} if place.count else set())
        self.disk.unlink(index_path(self.folder, place.number), missing_ok=True)
        for number in numbers(self.disk, self.folder):
            if number not in kept:
                remove(self.disk, self.folder, number)
        return True

    def _without_gap(self, place: ChunkPlace) -> list[FullChunk]:
        """Return the full chunks before a place, as far back as each topic's numbers go on from one to the next."""
        firsts = {topic: first for topic, first, _ in place.topics}
        chunks: list[FullChunk] = []
        number = place.number - 1
        while number > 0 and self.disk.exists(index_path(self.folder, number)):
            try:
                chunk = FullChunk.load(self.disk, self.folder, number)
                chunk.check_next(firsts)
            except (DamagedChunk, OSError) as error:
                logger.warning("%s: %s: given up, with all before it", index_path(self.folder, number), error)
                break
            firsts.update((topic, first) for topic, (first, _, _) in chunk.topics.items())
            chunks.insert(0, chunk)
            number -= 1
        return chunks

    def clear(self) -> None:
        """Drop all there is, what an earlier process has left included."""
        self.close()
        self.full.clear()
        for number in numbers(self.disk, self.folder):
            remove(self.disk, self.folder, number)
        self.newest = GrowingChunk(self.disk, self.folder, 1)

    def close(self) -> None:
        for chunk in self._oldest_first():
            chunk.close()
