"""The order journal: every request that was taken, of all assets, in one log, durable before it is acknowledged.

What concerns no asset (sessions, and the like) is in it too, as the queue of the asset "", which nobody is sent.
"""

from collections.abc import Callable
from pathlib import Path

from exchange.core.requests import MassCancel, Record, Request
from exchange.pipeline.codec import decode_record, encode
from exchange.pipeline.log import RECORD, Damaged, Log
from exchange.pipeline.stream import Index
from exchange.pipeline.world import World

MAX_RECORD_BYTES = 512 + RECORD.size  # every field of a request is bounded, so its record is; a definition's is larger


class Journal:
    """The journal, and where in it each record of each asset is.

    `open` it first. `append` buffers, `sync` puts all on disk; what was appended may be read at once.
    """

    def __init__(self, world: World, folder: Path, segment_bytes: int) -> None:
        self.log = Log(folder, segment_bytes, durable=True)
        self.indexes: dict[str, Index] = {}

    def open(self, restore: Callable[[Record], None], downstream: dict[str, int]) -> None:
        """Read and verify the journal, hand every record to `restore`, and cut an unfinished write off its end.

        `downstream` gives, per asset, the last sequence that a matching daemon has applied. Raises Damaged, changing
        nothing, where the journal is damaged or ends before one of them: it has lost what it once acknowledged.
        """
        group: list[tuple[int, Record]] = []  # of a mass cancel, until it is whole

        def on_record(position: int, body: bytes) -> None:
            record = decode_record(body)
            group.append((position, record))
            request = record.request
            if type(request) is MassCancel and request.part < request.parts:
                return
            for at, each in group:
                self._index(each.asset).add(at)
                restore(each)
            group.clear()

        self.log.scan(on_record)
        if group:
            self.log.forget_from(group[0][0])
        for asset, sequence in downstream.items():
            known = self._index(asset).last
            if sequence > known:
                raise Damaged(
                    f"{self.end_of_file()}: the journal ends with request {known} of {asset}, and its matching daemon "
                    f"has applied request {sequence}: the journal's end was lost; restore the file from a copy"
                )
        self.log.start_writing()

    def end_of_file(self) -> str:
        """Return the file and offset at which the journal ends, for an error's text."""
        if not self.log.segments:
            return f"{self.log.folder}: (no segment)"
        segment = self.log.segments[-1]
        return f"{segment.path}: offset {self.log.end - segment.base}"

    def append(self, record: Record) -> bytes:
        """Buffer a record and return its body, as its asset's queue is to be sent it."""
        body = encode(record)
        self._index(record.asset).add(self.log.append(body))
        return body

    def append_together(self, records: list[Record]) -> list[bytes]:
        """Buffer records that one write must carry whole."""
        self.log.keep_together(len(records) * MAX_RECORD_BYTES)
        return [self.append(record) for record in records]

    def has_room(self, records: int) -> bool:
        """Return whether so many records more are sure to find room on disk."""
        return self.log.has_room(records * MAX_RECORD_BYTES)

    def has_room_for(self, request: Request) -> bool:
        """Return whether a request of any size, such as a definition, is sure to find room on disk."""
        return self.log.has_room(len(encode(request)) + MAX_RECORD_BYTES)

    def sync(self) -> None:
        """Return when all that was appended is on disk. Raises OSError, after which the process must end."""
        self.log.sync()

    def read(self, asset: str, sequence: int) -> Record:
        """Return a record by its place in its asset's queue."""
        return decode_record(self.log.read(self.indexes[asset].positions[sequence - 1]))

    def replay(self, asset: str, sequence: int) -> bytes:
        """Return a stream message of an asset's records from a sequence on, as many as one message carries."""
        return self._index(asset).replay(self.log, sequence)

    def last(self, asset: str) -> int:
        """Return the last sequence of an asset's queue."""
        return self._index(asset).last

    def _index(self, asset: str) -> Index:
        index = self.indexes.get(asset)
        if index is None:
            index = self.indexes[asset] = Index(asset)
        return index

    def close(self) -> None:
        self.log.close()
