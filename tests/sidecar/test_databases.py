"""What the log says at the start of what serves slower than it might."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.refusing import CANNOT, REFUSE

LOAD = """
import asyncio
from extproc.databases import DatabaseLoader
asyncio.run(DatabaseLoader([]).run())
"""


@pytest.mark.parametrize("refused", [True, False])
def test_the_log_tells_where_machine_code_may_not_be_made(refused: bool) -> None:
    code = REFUSE * refused + LOAD
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    if CANNOT in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("PCRE2 cannot make machine code" in done.stdout) is refused
    assert ("MemoryDenyWriteExecute" in done.stdout) is refused
