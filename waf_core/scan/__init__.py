"""The scan: one value -> which patterns match.  Knows bytes and patterns, no rules."""
