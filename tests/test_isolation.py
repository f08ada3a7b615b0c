"""The test bench itself: what conftest.py promises."""

import os
import socket
import threading

import pytest
import torch


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("huggingface.co", 443)])
def test_another_machine_cannot_be_reached(address):
    with socket.socket() as plug, pytest.raises(RuntimeError, match="must not use the network"):
        plug.connect(address)
    with socket.socket() as plug, pytest.raises(RuntimeError, match="must not use the network"):
        plug.connect_ex(address)


def test_a_name_is_not_looked_up():
    with pytest.raises(RuntimeError, match="huggingface.co"):
        socket.create_connection(("huggingface.co", 443))


def test_a_server_on_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = threading.Thread(target=lambda: server.accept()[0].close())
        answer.start()
        socket.create_connection(server.getsockname()).close()
        answer.join()


@pytest.mark.parametrize("which", ["first", "second"])
def test_every_test_draws_the_same_numbers(which):
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_caches_are_in_a_temporary_folder():
    import huggingface_hub.constants
    from transformers.dynamic_module_utils import HF_MODULES_CACHE

    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert os.environ["HF_HOME"] in HF_MODULES_CACHE
    assert os.environ["HF_HOME"] in huggingface_hub.constants.HF_HUB_CACHE
