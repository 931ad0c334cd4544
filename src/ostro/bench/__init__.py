"""`ostro bench`: how fast a model runs on this machine, and how near that comes to what the machine can do."""

from ostro.bench.measure import bench_model, bench_shape
from ostro.bench.report import Point, Report
from ostro.bench.runs import Plan
from ostro.bench.shapes import find_shape, shape_names
from ostro.bench.subject import Machine

__all__ = ["Machine", "Plan", "Point", "Report", "bench_model", "bench_shape", "find_shape", "shape_names"]
