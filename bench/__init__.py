"""Benches: ratios against real peers, on the same work, in the same run.

python -m bench engine        whole transactions against libmodsecurity
python -m bench agreement     CRS's regression tests, put to libmodsecurity and to ours
python -m bench server        what a stream costs a server, without Envoy; memory of a worker
python -m bench envoy         added latency and throughput in the real Envoy
python -m bench hostile       what the worst requests cost
python -m bench neighbour     what one client's worst does to others
python -m bench bodies        large bodies of several clients at once
python -m bench instructions  machine instructions of a transaction (needs valgrind)
python -m bench scale         processes, workers, rules, bodies, arguments, memory, start-up
"""
