"""The Core Rule Set as its own test environment sets it up: paranoia level 4, detection only, the optional
limits set."""

from __future__ import annotations

from pathlib import Path

from extproc.ftw.run import Outcome, complaints, reflect, refused_by_server, run_case, run_stage
from extproc.requests.message import split_request
from waf_core import WAF
from waf_core.compiler import CompileOptions

SETUP = """
Include @recommended
SecRuleEngine DetectionOnly
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecRequestBodyNoFilesLimit 13107200
{before}
Include {root}/crs-setup.conf.example
SecAction "id:900005,phase:1,nolog,pass,ctl:ruleEngine=DetectionOnly,ctl:ruleRemoveById=910000,\\
  setvar:tx.blocking_paranoia_level=4,setvar:tx.crs_validate_utf8_encoding=1,\\
  setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,setvar:tx.total_arg_length=64000,\\
  setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"
Include {root}/rules/*.conf
"""


def make_waf(root: Path, options: CompileOptions | None = None, before: str = "") -> WAF:
    """CRS with the set-up of its own tests."""
    from waf_core.baseline import resolve

    return WAF.from_directives(SETUP.format(root=root, before=before), resolver=resolve, options=options)


__all__ = [
    "Outcome",
    "complaints",
    "make_waf",
    "reflect",
    "refused_by_server",
    "run_case",
    "run_stage",
    "split_request",
]
