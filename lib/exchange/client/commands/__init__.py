"""The subcommands of `exchange`, by subject; `exchange.client.command` puts them together.

To add one: write a function `<name>_command` with `@click.command(name=...)` and the options of `common`, and list it
in `command.py`. Errors of the library pass through: the group turns them into exit statuses.
"""
