"""A daemon whose files are soon full: `python -m tests.integration.small_files order_handler`, or `matching ACME`.

The segments of its logs are smaller than a configuration may have them, and so are the files of its table of ids: what
happens at their ends happens several times a second.
"""

import dataclasses
import sys

from daemons import matching, order_handler
from exchange.config import Config
from exchange.pipeline import id_table
from exchange.pipeline.daemon import load_config, run

SEGMENT_BYTES = 128 * 1024
ID_SLOTS, ID_FILTER_BYTES = 2**12, 2**16
DAEMONS = {"order_handler": order_handler, "matching": matching}


def load_small_config() -> Config:
    config = load_config()
    return dataclasses.replace(config, journal=dataclasses.replace(config.journal, segment_bytes=SEGMENT_BYTES))


if __name__ == "__main__":
    name = sys.argv.pop(1)
    vars(DAEMONS[name])["load_config"] = load_small_config
    id_table.SLOTS, id_table.FILTER_BYTES = ID_SLOTS, ID_FILTER_BYTES
    run(name, DAEMONS[name].main)
