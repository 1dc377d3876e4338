"""What the log says at the start of what serves slower than it might."""

from __future__ import annotations

import subprocess
import sys

import pytest

REFUSE = """
import ctypes
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    raise SystemExit("this kernel cannot refuse it")
"""
"""As systemd's MemoryDenyWriteExecute."""

LOAD = """
import asyncio
from extproc.databases import DatabaseLoader
asyncio.run(DatabaseLoader([]).run())
"""


@pytest.mark.parametrize("refused", [True, False])
def test_the_log_tells_where_machine_code_may_not_be_made(refused: bool) -> None:
    code = REFUSE * refused + LOAD
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if "this kernel cannot" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("PCRE2 cannot make machine code" in done.stdout) is refused
    assert ("MemoryDenyWriteExecute" in done.stdout) is refused
