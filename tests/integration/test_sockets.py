"""Where there is no room for another socket."""

import pytest
import zmq

from exchange.pipeline import sockets


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pyzmq's half-made socket, let go
def test_a_socket_too_many_is_told_as_an_oserror() -> None:
    transport = sockets.Transport()
    transport.context.set(zmq.MAX_SOCKETS, 1)
    try:
        transport.subscriber(())
        with pytest.raises(OSError, match="no room for another socket"):
            transport.subscriber(())
    finally:
        transport.close()
