import os
import socket

import pytest

from koa_lightning.errors import InputError
from koa_lightning.tracking.ports import check_port


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_is_refused_with_the_process_that_has_it(taken):
    with pytest.raises(
        InputError, match=rf"^host=127.0.0.1 port={taken}: .*in use \(process {os.getpid()}, .*\); type it$"
    ):
        check_port("127.0.0.1", taken, "type it")


def test_a_free_port_is_taken_as_it_is(taken):
    check_port("127.0.0.1", 0, "type it")  # 0: any that is free


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InputError, match=r"host=192\.0\.2\.1 port=0: .*; type it"):
        check_port("192.0.2.1", 0, "type it")
