"""What begins a program in which memory may not be made executable, as systemd's MemoryDenyWriteExecute has it."""

CANNOT = "this kernel cannot refuse it"
"""What such a program ends with on an older kernel."""

REFUSE = f"""
import ctypes
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    raise SystemExit("{CANNOT}")
"""
