"""The two floors of an epoch on this GPU, in seconds: arithmetic (68.2 TFLOP at a large product's rate) and latency (the 101 ticks
forward and 101 back of each step, one after another, as kernels in a graph that each wait for the one before)."""

import json
import time

import torch

WINDOWS = 144_324


def rate(dtype, tf32):
    torch.backends.cuda.matmul.allow_tf32 = tf32
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    return 2 * n**3 * 10 / (time.perf_counter() - start) / 1e12


def tick():
    x = torch.zeros(64, device="cuda")
    for _ in range(3):
        x.add_(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(1000):
            x.add_(1)
    graph.replay()
    torch.cuda.synchronize()
    start = time.perf_counter()
    graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / 1000 * 1e6


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
            "productTflops": tflops,
            "dependentKernelMicroseconds": microseconds,
            "arithmeticFloorSecondsPerEpoch": {name: 68.2 / value for name, value in tflops.items()},
            "latencyFloorSecondsPerEpoch": {batch: -(-WINDOWS // batch) * 202 * microseconds / 1e6 for batch in (64, 128, 512, 2048)},
        }
    )
)
