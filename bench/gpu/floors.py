"""The two floors of an epoch on this GPU, in seconds: arithmetic (68.2 TFLOP at a large product's rate) and latency (the 101 ticks
forward and 101 back of each step, one after another, as kernels in a graph that each wait for the one before); and the rate of a large
copy, reads and writes counted. One JSON object on stdout.

    python3 bench/gpu/floors.py [--tiny]

--tiny: figures of no interest from whatever device there is, to try the script itself."""

import json
import sys
import time

import torch

TINY = "--tiny" in sys.argv
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WINDOWS = 144_324


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(work, count=10):
    """Of the fastest of three runs: what the machine can do."""
    best = float("inf")
    for _ in range(3):
        work()
        synchronize()
        start = time.perf_counter()
        for _ in range(count):
            work()
        synchronize()
        best = min(best, (time.perf_counter() - start) / count)
    return best


def rate(dtype, tf32):
    torch.backends.cuda.matmul.allow_tf32 = tf32
    n = 64 if TINY else 8192
    a, b = (torch.randn(n, n, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b) / 1e12


def copy():
    a = torch.randn(1 << (10 if TINY else 30), device=DEVICE)
    b = torch.empty_like(a)
    return 2 * a.nbytes / seconds(lambda: b.copy_(a)) / 1e12


def tick():
    x = torch.zeros(64, device=DEVICE)
    if DEVICE != "cuda":
        return seconds(lambda: x.add_(1)) * 1e6
    for _ in range(3):
        x.add_(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(1000):
            x.add_(1)
    return seconds(graph.replay, 1) / 1000 * 1e6


tflops = {
    "fp32": rate(torch.float32, False),
    "tf32": rate(torch.float32, True),
    "bf16": rate(torch.bfloat16, True),
    "fp16": rate(torch.float16, True),
}
microseconds = tick()
print(
    json.dumps(
        {
            "device": DEVICE,
            "productTflops": tflops,
            "copyTerabytesPerSecond": copy(),
            "dependentKernelMicroseconds": microseconds,
            "arithmeticFloorSecondsPerEpoch": {name: 68.2 / value for name, value in tflops.items()},
            "latencyFloorSecondsPerEpoch": {batch: -(-WINDOWS // batch) * 202 * microseconds / 1e6 for batch in (64, 128, 512, 2048)},
        }
    )
)
