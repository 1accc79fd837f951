"""The peer: PyTorch's nn.LSTM training loop for the same recipe on the same GPU: eager, compiled, and the whole step as a CUDA graph,
which is the fair one for a package whose step is a graph too. One JSON object on stdout."""

import json
import time

import torch
import torch._dynamo

WINDOWS, STEPS, VOCABULARY, HIDDEN = 144_324, 100, 47, 256


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(1, HIDDEN, 2, dropout=0.2)
        self.dropout = torch.nn.Dropout(0.2)
        self.output = torch.nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, x):
        return self.output(self.dropout(self.lstm(x)[0][-1]))


MODES = ("eager", "compiled", "graphed")


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
    model = Model().cuda()
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7, fused=True, capturable=mode == "graphed")
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    loss_of = torch.nn.CrossEntropyLoss()
    ids = torch.randint(0, VOCABULARY, (STEPS + 1, batch), device="cuda")
    run = torch.compile(model) if mode == "compiled" else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        x = (ids[:-1].float() / VOCABULARY).unsqueeze(-1)
        # Weights that were cast in the warm-up must be cast anew by every replay.
        with torch.autocast("cuda", dtype=low, enabled=low is not None, cache_enabled=mode != "graphed"):
            loss = loss_of(run(x), ids[-1])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    once = captured(step) if mode == "graphed" else step
    for _ in range(10):
        once()
    torch.cuda.synchronize()
    times = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(20):
            once()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 20)
    each = sorted(times)[len(times) // 2]
    return {
        "precision": precision,
        "batch": batch,
        "mode": mode,
        "millisecondsPerStep": each * 1e3,
        "secondsPerEpoch": each * -(-WINDOWS // batch),
    }


def main():
    results = []
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        for batch in (64, 512, 2048):
            for mode in MODES:
                try:
                    results.append(measure(precision, batch, mode))
                except Exception as error:  # a combination that this PyTorch lacks is a result too
                    results.append({"precision": precision, "batch": batch, "mode": mode, "error": str(error)[:300]})
    print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "results": results}))


main()
