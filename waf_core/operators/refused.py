"""Operators that are known and refused, each with the reason and an alternative."""

from __future__ import annotations

from waf_core.operators import REFUSED

REFUSED.update(
    {
        "rsub": "@rsub rewrites bodies; envoy-waf inspects and never changes traffic (ModSecurity v3 and"
        " Coraza refuse it too); use an Envoy filter to rewrite",
        "inspectfile": "@inspectFile runs a program on uploads; envoy-waf runs none; scan uploads in the"
        " application, or judge FILES_TMP_CONTENT with @rx or @pmFromFile",
        "fuzzyhash": "@fuzzyHash needs ssdeep, which is not part of envoy-waf; use @rx or @pmFromFile on"
        " FILES_TMP_CONTENT",
        "gsblookup": "@gsbLookup's data (Google Safe Browsing v1) is no longer published; use @pmFromFile"
        " with a list of your own",
        "validatehash": "@validateHash belongs to ModSecurity v2's response rewriting, which no proxy offers;"
        " remove the rule",
    }
)
