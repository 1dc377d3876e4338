"""Benches: ratios against real peers, on the same work, in the same run.

python -m bench engine     whole transactions against libmodsecurity
python -m bench envoy      added latency and throughput in the real Envoy
python -m bench hostile    what the worst requests cost
python -m bench scale      processes, rules, bodies, arguments, memory, start-up
"""
