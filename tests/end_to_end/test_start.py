"""The start of the whole exchange, as `make run` does it, on another data folder and other ports."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from exchange import supervision
from exchange.config import Config
from tests.end_to_end.exchange import answers, process_exists, process_of, started, supervisor_process
from tests.support import PROJECT, wait_until, write_config

ASSETS = """
[[asset]]
asset = "BTC-USD"
price_scale = 2
quantity_scale = 8
"""
PROGRAMS = {"order_handler", "matching-BTC-USD", "logger", "notifier", "postgres"}


def refused(config: Config) -> tuple[int, str]:
    """Run a start that is to be refused. Returns its exit status and what it said."""
    environment = os.environ | {"EXCHANGE_CONFIG": str(config.folder), "EXCHANGE_DATA": str(config.data)}
    done = subprocess.run(
        [sys.executable, "-m", "daemons"], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_the_whole_exchange_starts_restarts_what_dies_and_stops(open_folder: Path) -> None:
    folder = open_folder / "with a space"
    folder.mkdir()
    config = write_config(folder, ASSETS)
    with started(config) as start:
        start.wait_until_running()
        assert "exchange order buy BTC-USD 1.5@100.25 --account alice" in start.output()

        supervisorctl = [
            str(Path(sys.executable).with_name("supervisorctl")),
            "-c",
            str(config.data / "supervisord.conf"),
        ]
        status = subprocess.run([*supervisorctl, "status"], cwd="/", capture_output=True, text=True, timeout=30)
        assert status.returncode == 0, status.stdout
        assert {line.split()[0] for line in status.stdout.splitlines()} == PROGRAMS

        code, said = refused(config)
        assert code == 1
        assert f"started by process {start.process.pid}" in said

        for program in ("matching-BTC-USD", "postgres"):
            before = process_of(config, program)
            os.kill(before, signal.SIGKILL)
            wait_until(lambda: process_of(config, program) not in (0, before), f"{program} runs again", seconds=20)  # noqa: B023

        start.process.send_signal(signal.SIGINT)
        start.process.send_signal(signal.SIGINT)  # an impatient second Ctrl-C changes nothing
        assert start.process.wait(60) == 0, start.output()
        assert "The exchange has stopped." in start.output()
        assert supervision.find_left_behind(config) == []
        assert not answers(config)


def test_killed_with_its_supervisord_it_leaves_daemons_that_the_next_start_ends(open_folder: Path) -> None:
    config = write_config(open_folder, ASSETS)
    with started(config) as first:
        first.wait_until_running()
        supervisor = supervisor_process(config)
        os.kill(supervisor, signal.SIGSTOP)  # so that the kernel's request on our death comes too late
        first.process.kill()
        first.process.wait(30)
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not process_exists(supervisor), "supervisord is gone")
        assert "order_handler" in {each.program for each in supervision.find_left_behind(config)}
        with started(config) as second:
            second.wait_until_running()
            assert "Ending what a killed supervisord left running" in second.output()

            os.kill(supervisor_process(config), signal.SIGKILL)
            assert second.process.wait(60) == 1, second.output()
            assert supervision.find_left_behind(config) == []


def test_killed_alone_it_takes_everything_with_it(open_folder: Path) -> None:
    config = write_config(open_folder, ASSETS)
    with started(config) as start:
        wait_until(lambda: answers(config), "supervisord answers")
        start.process.kill()
        start.process.wait(30)
        # A program that was being started at that moment may miss the signal: it is killed after its stopwaitsecs.
        wait_until(lambda: not answers(config) and not supervision.find_left_behind(config), "all is down", seconds=90)


def test_a_wrong_configuration_stops_the_start_with_file_key_value_and_rule(tmp_path: Path) -> None:
    config = write_config(tmp_path, ASSETS)
    (config.folder / "exchange.toml").write_text("[journal]\nsegment_bytes = 12\n[colour]\n")
    (config.folder / "assets.toml").write_text('[[asset]]\nasset = "btc"\nprice_scale = 2\n')
    code, said = refused(config)
    assert code == 2
    assert f"{config.folder / 'exchange.toml'}: journal.segment_bytes = 12: must be a whole number of" in said
    assert f"{config.folder / 'exchange.toml'}: [colour]: no such section" in said
    assert f"{config.folder / 'assets.toml'}: [[asset]] btc: asset = 'btc': must be" in said
    assert not config.data.exists()


@pytest.mark.parametrize("dsn", ["foo bar", "hostt=x", "postgresql://h:xx/"])
def test_a_dsn_that_is_none_stops_the_start_with_file_key_value_and_rule(tmp_path: Path, dsn: str) -> None:
    config = write_config(tmp_path, ASSETS, f"[database]\ndsn = '{dsn}'")
    code, said = refused(config)
    assert code == 2
    file = config.folder / "exchange.toml"
    assert f"{file}: database.dsn = '{dsn}': must be a PostgreSQL connection string" in said
    assert not config.data.exists()


def test_ports_in_use_stop_the_start_and_are_named(tmp_path: Path) -> None:
    config = write_config(tmp_path, ASSETS)
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(config.endpoints.query.rsplit(":", 1)[1])))
        other.listen()
        code, said = refused(config)
    assert code == 1
    assert f"endpoints.query = '{config.endpoints.query}': Address already in use" in said
    assert "ss -ltnp" in said
