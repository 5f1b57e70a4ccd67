"""Daemons die at every named point, once each, while a client trades. `fault_points.py` does it many times."""

import random
from pathlib import Path

import pytest

from exchange.config import ConfigError
from exchange.pipeline import faults
from exchange.pipeline.disk import Disk
from exchange.pipeline.sockets import Transport
from exchange.pipeline.world import World
from exchange.store.writer import Writer
from tests.integration.fault_points import Trial
from tests.support import Daemon, write_config


def test_whatever_daemon_dies_at_whatever_point_nothing_is_lost_and_nothing_happens_twice(
    dsn: str, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"python -m tests.integration.fault_points --seed {seed}")
    trial = Trial(tmp_path, dsn, list(faults.POINTS), seed)
    trial.run()
    assert trial.deaths == dict.fromkeys(faults.POINTS, 1)


def test_where_nothing_is_armed_a_daemon_has_the_machine_s_own_disk_and_sockets_and_its_own_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    world, writer = World(), Writer("")
    assert type(world.disk) is Disk
    assert type(world.transport) is Transport
    assert vars(faults.arm_writer(writer)).keys() == vars(Writer("")).keys()
    world.close()


def test_a_point_that_does_not_exist_refuses_the_start_and_names_those_that_do(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    daemon = Daemon(config, "notifier", environment={faults.VARIABLE: "journal.torn_write,journal.torn_right:2"})
    daemon.start()
    try:
        assert daemon.wait() == 2
    finally:
        daemon.kill()
    assert "EXCHANGE_FAULT: 'journal.torn_right' is no point at which a daemon can be made to die" in daemon.output()
    for name, point in faults.POINTS.items():
        assert f"  {name:40} {point.meaning}" in daemon.output()


@pytest.mark.parametrize("count", ["0", "-1", "x", ""])
def test_behind_a_point_s_colon_stands_a_number_from_1_on(count: str) -> None:
    with pytest.raises(
        ConfigError, match=f"'journal.torn_write:{count}': what stands behind the colon must be a number"
    ):
        faults.parse(f"journal.torn_write:{count}")
