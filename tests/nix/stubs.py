# What the test driver of NixOS puts before a test's script, as far as ours use it
# (nixos/lib/test-script-prepend.py and the driver's machine/__init__.py).
import os
from typing import Any, Callable, ContextManager


class QemuMachine:
    def crash(self) -> None:
        raise NotImplementedError

    def execute(self, command: str, check_return: bool = True, check_output: bool = True, timeout: int | None = 900) -> tuple[int, str]:
        raise NotImplementedError

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        raise NotImplementedError

    def start(self, allow_reboot: bool = False) -> None:
        raise NotImplementedError

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        raise NotImplementedError

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        raise NotImplementedError

    def wait_until_fails(self, command: str, timeout: int = 900) -> str:
        raise NotImplementedError

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        raise NotImplementedError



start_all: Callable[[], None]
subtest: Callable[[str], ContextManager[None]]


def retry(fn: Callable[[bool], Any], timeout: int = 900) -> None:
    raise NotImplementedError
