"""Kernels forked from one process are kernels like any other: own folder, own environment, interrupted and ended."""

import os
import queue
import time

import psutil
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

import nursery

pytestmark = pytest.mark.skipif(not nursery.possible(), reason="processes are not forked here")
HANGING = 600


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """A nursery that has imported little, and how to start a kernel from it in a folder."""
    folder = tmp_path_factory.mktemp("kernels")
    mother = nursery.Nursery(folder, libraries=("ipykernel.kernelapp", "wave"))
    started = []

    def start(cwd, **environment):
        specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
        manager = KernelManager(kernel_name=nursery.NAME, kernel_spec_manager=specs)
        manager.start_kernel(cwd=str(cwd), env=os.environ | environment)
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=HANGING)
        started.append(manager)
        return manager, client

    yield start
    for manager in started:
        manager.shutdown_kernel(now=True)
    mother.close()


def reply_to(client, asked: str) -> dict:
    """Return what the kernel answered to one request."""
    while (message := client.get_shell_msg(timeout=HANGING))["parent_header"].get("msg_id") != asked:
        pass
    return message["content"]


def value(client, expression: str):
    """Return what ``expression`` is in the kernel."""
    asked = client.execute("", user_expressions={"value": expression}, store_history=False)
    return eval(reply_to(client, asked)["user_expressions"]["value"]["data"]["text/plain"])


def test_a_kernel_has_its_own_folder_and_environment_and_what_was_imported_before(kernels, tmp_path):
    _, client = kernels(tmp_path, SAID_TO_THIS_ONE="yes")
    assert value(client, "__import__('os').getcwd()") == str(tmp_path)
    assert value(client, "__import__('os').environ['SAID_TO_THIS_ONE']") == "yes"
    assert value(client, "'wave' in __import__('sys').modules")
    assert not value(client, "'sdlab' in __import__('sys').modules")
    _, other = kernels(tmp_path)
    assert "SAID_TO_THIS_ONE" not in value(other, "list(__import__('os').environ)")


def test_a_kernel_is_interrupted_and_goes_on(kernels, tmp_path):
    manager, client = kernels(tmp_path)
    # a kernel turns away what is asked just after an error, unless it was told that this one is none
    asked = client.execute("print('begun', flush=True)\nwhile True:\n    pass", stop_on_error=False)
    while client.get_iopub_msg(timeout=HANGING)["content"].get("text") != "begun\n":
        pass
    manager.interrupt_kernel()
    assert reply_to(client, asked)["ename"] == "KeyboardInterrupt"
    assert value(client, "1 + 1") == 2


def test_a_kernel_that_ends_by_itself_is_seen_and_one_that_is_killed_leaves_nothing(kernels, tmp_path):
    manager, client = kernels(tmp_path)
    process = psutil.Process(value(client, "__import__('os').getpid()"))
    manager.shutdown_kernel(now=True)
    process.wait(timeout=HANGING)
    manager, client = kernels(tmp_path)
    client.execute("import os\nos._exit(3)")
    end = time.monotonic() + HANGING
    while manager.is_alive():
        assert time.monotonic() < end
        with pytest.raises(queue.Empty):
            client.get_stdin_msg(timeout=0.1)


def test_the_process_ends_when_whoever_started_it_is_gone(tmp_path):
    mother = nursery.Nursery(tmp_path, libraries=())
    mother.process.stdin.close()  # as the system does when the tests are killed
    assert mother.process.wait(timeout=HANGING) == 0
    mother.process.stdout.close()
