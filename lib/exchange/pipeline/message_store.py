"""What was published, on disk, for retransmission: an asset's notes in a row of chunks, messages found by number.

Nothing that a replay can't make again: what is damaged is given up, and who asks for it is told that it is too old.
The files outlive the process. Who has kept the store's place (`place`) goes on from there with all that was retained
then (`go_on`); what was added since is cut off, and added again by who folds the same events again.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from exchange.core.execution_reports import Topic
from exchange.core.feed_notes import PUBLIC_TOPICS, Changed, Note, NumberedMessage, Said, Traded, public_on, reports_to
from exchange.core.messages import ExecutionReport
from exchange.pipeline.chunk_index import DamagedChunk, Numbers
from exchange.pipeline.codec import encode
from exchange.pipeline.disk import Disk
from exchange.pipeline.message_chunk import (
    Chunk,
    ChunkPlace,
    FullChunk,
    GrowingChunk,
    index_path,
    messages_path,
    numbers,
    remove,
)

CHUNKS = 16  # that what is retained is in, about
MOST_CHUNK_BYTES = 2**30  # from which a chunk is full too: offsets are 32 bits
PAGE_MESSAGES = 400  # from which a page is written: fewer wait in memory
NOTHING = (0,) * len(PUBLIC_TOPICS)

logger = logging.getLogger(__name__)


class MessageStore:
    """The last messages of an asset's topics: at least half of `retained`, at most all of it and one page more.

    A new one is empty; before the first `add` either `clear` or `go_on` says what becomes of files that are there.
    Where the disk is full, what was retained is given up: the venue goes on, and who asks for an older message is told
    that it is too old. Memory: that of the newest chunk's index, see `PublicIndex` and `GrowingEntries`.
    """

    def __init__(self, disk: Disk, folder: Path, retained: int) -> None:
        self.disk = disk
        self.folder = folder
        self.retained = retained
        self.chunk_messages = max(retained // CHUNKS, 1)
        self.page_messages = min(self.chunk_messages, PAGE_MESSAGES)
        self.full: list[FullChunk] = []
        self.newest = GrowingChunk(disk, folder, 1, NOTHING)
        # What is yet to be written, as one page.
        self.notes: list[Note] = []
        self.first: dict[int, int] = {}
        self.after: Numbers = NOTHING
        self.count = 0

    # -- write ---------------------------------------------------------------------------------------------------------

    def add(self, notes: list[Note], first: dict[int, int], after: Numbers) -> int:
        """Add what a feed has noted; return how many messages that is.

        `first` are the numbers of the first message of each private topic that has any in it, by the topic's place,
        `after` the public topics' last numbers then.
        """
        kinds = list(map(type, notes))
        reports = len(notes) + kinds.count(Traded) - kinds.count(Changed) - kinds.count(Said)
        count = reports + sum(after) - sum(self.after)
        self.after = after
        self.count += count
        if self.notes:
            self.notes += notes
            self.first = first | self.first
        else:
            self.notes, self.first = notes.copy(), first.copy()
        if self.count >= self.page_messages:
            self.flush()
        return count

    def flush(self) -> None:
        """Write what was added, and drop what is past retention."""
        if not self.notes:
            return
        newest = self.newest
        try:
            newest.write(self.notes, self.first, self.after, self.count)
            if newest.count >= self.chunk_messages or newest.size >= MOST_CHUNK_BYTES:
                self.full.append(newest.fill())
                self.newest = GrowingChunk(self.disk, self.folder, newest.number + 1, self.after, newest.last)
                self._retain()
        except OSError as error:
            logger.warning("%s: can't keep messages for retransmission: %s", self.folder, error)
            self._give_up()
        self._forget_unwritten()

    def _forget_unwritten(self) -> None:
        self.notes, self.first, self.count = [], {}, 0

    def _retain(self) -> None:
        """Drop the oldest chunks that are not needed to retain half of what may be."""
        kept = sum(chunk.count for chunk in self.full)
        while kept + self.chunk_messages > self.retained and (kept - self.full[0].count) * 2 >= self.retained:
            kept -= self.full[0].count
            self._drop(1)

    def _drop(self, count: int) -> None:
        """Drop the oldest full chunks."""
        for chunk in self.full[:count]:
            remove(self.disk, self.folder, chunk.number)
        del self.full[:count]

    def _give_up(self) -> None:
        """Drop all that was written and begin anew."""
        number = self.newest.number
        self._drop(len(self.full))
        self.newest.close()
        remove(self.disk, self.folder, number)
        self.newest = GrowingChunk(self.disk, self.folder, number + 1, self.after)

    # -- read ----------------------------------------------------------------------------------------------------------

    def read(self, asset: str, topic: Topic, first: int, most_notes: int) -> Iterator[tuple[int, bytes]]:
        """Yield the messages of a topic of the asset from a number on, each after its number, without a gap.

        None where the first is not retained. It ends where the topic does, with the page in which so many notes have
        been gone through, or at what turns out to be damaged.
        """
        self.flush()
        number, passed = first, 0
        for chunk in self._chunks_from(topic, number):
            try:
                for count, notes in chunk.read(topic, number):
                    for message in _messages(asset, topic, notes):
                        if message.sequence == number:
                            yield number, encode(message)
                            number += 1
                    passed += count
                    if passed >= most_notes:
                        return
            except (DamagedChunk, OSError) as error:
                self._warn_and_drop(chunk, error)
                return
            if number == first:
                return

    def _chunks_from(self, topic: Topic, number: int) -> list[Chunk]:
        """Return the chunk in which a message is, if it is retained, and those after it."""
        chunks = self.chunks
        for place in range(len(chunks) - 1, -1, -1):
            chunk = chunks[place]
            first = self._first(chunk, topic)
            if first is not None and first <= number:
                return chunks[place:]
            if chunk not in self.chunks:
                return []  # it is damaged, and all before it was dropped with it
        return []

    def _first(self, chunk: Chunk, topic: Topic) -> int | None:
        """Return the number of a topic's first message in a chunk, None where there is none."""
        try:
            return chunk.first(topic)
        except (DamagedChunk, OSError) as error:
            self._warn_and_drop(chunk, error)
            return None

    @property
    def chunks(self) -> list[Chunk]:
        """All there are, the oldest first."""
        return [*self.full, self.newest]

    def _warn_and_drop(self, chunk: Chunk, error: Exception) -> None:
        """Drop a chunk and all before it: what is retained of a topic has no gap."""
        logger.warning("%s: %s: given up, with all before it", messages_path(self.folder, chunk.number), error)
        if isinstance(chunk, FullChunk):
            self._drop(self.full.index(chunk) + 1)
        else:
            self._give_up()

    def earliest(self, topic: Topic) -> int | None:
        """Return the number of a topic's first message that is retained, None where none is."""
        self.flush()
        for chunk in self.chunks:
            first = self._first(chunk, topic)
            if first is not None:
                return first
        return None

    # -- what outlives the process -------------------------------------------------------------------------------------

    @property
    def place(self) -> ChunkPlace:
        """Where the store is, all that was added being written. It can be gone on from once `sync` has returned."""
        assert not self.notes
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
        newest = GrowingChunk(self.disk, self.folder, place.number, place.after, place.previous)
        try:
            newest.go_on(place)
        except (DamagedChunk, OSError) as error:
            newest.close()
            logger.warning("%s: %s", messages_path(self.folder, place.number), error)
            return False
        self.newest, self.after = newest, place.after
        self.full = self._without_gap(place)
        kept = {chunk.number for chunk in self.full} | ({place.number} if place.size else set())
        self.disk.unlink(index_path(self.folder, place.number), missing_ok=True)
        for number in numbers(self.disk, self.folder):
            if number not in kept:
                remove(self.disk, self.folder, number)
        return True

    def _without_gap(self, place: ChunkPlace) -> list[FullChunk]:
        """Return the full chunks before a place, as far back as each goes on from the one before."""
        previous = place.previous
        chunks: list[FullChunk] = []
        number = place.number - 1
        while number > 0 and self.disk.exists(index_path(self.folder, number)):
            try:
                chunk = FullChunk.load(self.disk, self.folder, number)
                chunk.check_next(previous)
            except (DamagedChunk, OSError) as error:
                logger.warning("%s: %s: given up, with all before it", index_path(self.folder, number), error)
                break
            previous = chunk.previous
            chunks.insert(0, chunk)
            number -= 1
        return chunks

    def clear(self, after: Numbers = NOTHING) -> None:
        """Drop all there is, what an earlier process has left included.

        `after` are the public topics' last numbers, where what comes next does not begin with 1.
        """
        self.close()
        self._forget_unwritten()
        self.after = after
        self.full.clear()
        for number in numbers(self.disk, self.folder):
            remove(self.disk, self.folder, number)
        self.newest = GrowingChunk(self.disk, self.folder, 1, after)

    def close(self) -> None:
        self.newest.close()


def _messages(asset: str, topic: Topic, notes: list[Note]) -> Iterator[NumberedMessage | ExecutionReport]:
    if topic.account is None:
        return public_on(topic.kind, asset, notes)
    return reports_to(topic.account.name, asset, notes)
