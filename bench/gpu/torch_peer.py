"""The peer: PyTorch's nn.LSTM training loop for the same recipe on the same GPU: eager, compiled, and the whole step as a CUDA graph,
which is the fair one for a package whose step is a graph too. A JSON object a line on stdout, the fair peer's first.

    python3 bench/gpu/torch_peer.py [--tiny]

--tiny: a model of no interest on whatever device there is, to try the script itself."""

import json
import sys
import time

import torch
import torch._dynamo

TINY = "--tiny" in sys.argv
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WINDOWS, VOCABULARY = 144_324, 47
STEPS, HIDDEN, BATCHES = (3, 6, (2, 3)) if TINY else (100, 256, (64, 512, 2048))
WARM_UP, REPEATS, PASSES = (1, 1, 1) if TINY else (10, 7, 20)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(1, HIDDEN, 2, dropout=0.2)
        self.dropout = torch.nn.Dropout(0.2)
        self.output = torch.nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, x):
        return self.output(self.dropout(self.lstm(x)[0][-1]))


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def captured(step):
    """The step as a CUDA graph, warmed up beside the capturing stream as PyTorch asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(10):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def measure(precision, batch, mode):
    torch.manual_seed(1)
    # Else the second batch is compiled for any size, and the ninth combination not at all.
    torch._dynamo.reset()
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    model = Model().to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7, fused=DEVICE == "cuda", capturable=mode == "graphed")
    scaler = torch.amp.GradScaler(DEVICE, enabled=precision == "fp16")
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    loss_of = torch.nn.CrossEntropyLoss()
    ids = torch.randint(0, VOCABULARY, (STEPS + 1, batch), device=DEVICE)
    run = torch.compile(model) if mode == "compiled" else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        x = (ids[:-1].float() / VOCABULARY).unsqueeze(-1)
        # Weights that were cast in the warm-up must be cast anew by every replay.
        with torch.autocast(DEVICE, dtype=low, enabled=low is not None, cache_enabled=mode != "graphed"):
            loss = loss_of(run(x), ids[-1])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    once = captured(step) if mode == "graphed" else step
    for _ in range(WARM_UP):
        once()
    synchronize()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(PASSES):
            once()
        synchronize()
        times.append((time.perf_counter() - start) / PASSES)
    times.sort()
    each = times[len(times) // 2]
    return {
        "precision": precision,
        "batch": batch,
        "mode": mode,
        "millisecondsPerStep": each * 1e3,
        "spread": (times[-1] - times[0]) / each,
        "secondsPerEpoch": each * -(-WINDOWS // batch),
    }


def main():
    print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "device": DEVICE}))
    modes = ("graphed", "eager", "compiled") if DEVICE == "cuda" else ("eager",)
    for mode in modes:
        for precision in ("tf32", "bf16", "fp32", "fp16"):
            for batch in BATCHES:
                try:
                    result = measure(precision, batch, mode)
                except Exception as error:  # a combination that this PyTorch lacks is a result too
                    result = {"precision": precision, "batch": batch, "mode": mode, "error": str(error)[:300]}
                print(json.dumps(result), flush=True)


main()
