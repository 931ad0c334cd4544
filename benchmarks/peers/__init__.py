"""The parts of `cpu_speed.py` and `cpu_memory.py`: other engines built, fed with random weights, run and compared."""
