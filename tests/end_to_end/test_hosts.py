"""Two hosts, which are network namespaces: the same comes out as on one, whatever is killed, and whatever is cut."""

import random
import re
from pathlib import Path

import pytest

from exchange import supervision
from exchange.config import Config, load
from tests.end_to_end.exchange import Shell, started
from tests.end_to_end.host_kills import HostKills
from tests.namespaces import joined, why_not
from tests.support import PROJECT, wait_until

ROWS = 12_000
KILLS = 6  # one of each daemon, PostgreSQL among them; at two of them the cable is cut

needs_namespaces = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are namespaces")


@pytest.mark.shared
@needs_namespaces
def test_a_real_flow_comes_out_exactly_on_two_hosts_with_kills_on_both_and_cuts_between_them(open_folder: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    with joined() as cable:
        run = HostKills(open_folder, cable, ROWS, KILLS, seed)
        run.run()
    assert set(run.killed.values()) == {1}
    assert run.cuts == 2


@needs_namespaces
def test_the_example_of_the_documentation_runs_on_two_hosts(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With supervisord on both, each started with nothing but the two files and its name."""
    settings = open_folder / "config"
    settings.mkdir()
    for name, text in examples().items():
        (settings / name).write_text(text)
    configs: list[Config] = []
    for host in ("main", "second"):
        (open_folder / host).mkdir()
        monkeypatch.setenv("EXCHANGE_HOST", host)
        configs.append(load(settings, open_folder / host / "var"))
    monkeypatch.delenv("EXCHANGE_HOST")
    first, second = configs
    with joined() as cable, started(first, cable.machines[0].through) as one:
        with started(second, cable.machines[1].through) as other:
            one.wait_until_running()
            other.wait_until_running()
            assert supervision.programs(second) == ["matching-AAPL"]
            shell, elsewhere = (
                Shell(config, machine.through) for config, machine in zip(configs, cable.machines, strict=True)
            )
            for side, account in (("sell", "bob"), ("buy", "alice")):
                shell.run("order", side, "AAPL", "1@100.25", "--account", account)
            wait_until(lambda: shell.json("trades", "AAPL")["trades"], "the trade is published")
            assert "on host second, heard of" in shell.run("status")
            assert "This is host second" in elsewhere.run("status")
            assert elsewhere.json("status")["daemons"][0]["processed"] == {"AAPL": 3}
        assert "Stopping the exchange" in other.output()


def examples() -> dict[str, str]:
    """Return what the documentation gives for each file of the configuration, by the file's name."""
    text = (PROJECT / "docs" / "scaling.md").read_text()
    found = re.findall(r"(?ms)^`(\w+\.toml)`.*?^```toml\n(.*?)^```", text)
    assert {name for name, _ in found} == {"exchange.toml", "assets.toml"}
    return dict(found)
