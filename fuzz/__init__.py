"""`python -m fuzz`: bytes that look for broken promises, guided by coverage.

Each target takes bytes and raises when something that is promised does not hold: a parser that raises what it does
not declare, two ways of judging that differ, a bound that is passed.  tests/core/test_fuzz_targets.py runs all of
them on random bytes, so that they keep up with the code; here they run for as long as one likes.
"""
