"""An order handler whose table of ids soon needs another file: `python -m tests.integration.small_ids`."""

from daemons import order_handler
from exchange.pipeline import id_table
from exchange.pipeline.daemon import run

if __name__ == "__main__":
    id_table.SLOTS = 2**12
    id_table.FILTER_BYTES = 2**16
    run("order_handler", order_handler.main)
