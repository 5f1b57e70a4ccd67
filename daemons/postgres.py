"""The embedded PostgreSQL, for an exchange whose configuration names no other: `python -m daemons.postgres`."""

import sys

from exchange import config as configuration
from exchange.config import ConfigError
from exchange.store import embedded


def main() -> int:
    try:
        config = configuration.load()
        if config.database.dsn:
            print("database.dsn names a server: there is nothing to embed", file=sys.stderr)
            return 2
        embedded.run(config)
    except (ConfigError, embedded.EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the stop signal, before the server was there to get it
        return 130


if __name__ == "__main__":
    sys.exit(main())
