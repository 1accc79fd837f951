"""PyTorch's nn.LSTM on the CPU in an ordinary training loop: fused Adam, eager or compiled, whichever is faster."""

import numpy as np
import torch

from serve import claim_stdout, fastest, read_job, serve


class Model(torch.nn.Module):
    """Time-major: ids [T, B] in; logits [T, B, V], or [B, V] of the last position, out."""

    def __init__(self, job):
        super().__init__()
        self.vocabulary = job["vocabulary"]
        self.scalar = job["input"] == "scalar"
        self.last = job["target"] == "last"
        self.lstm = torch.nn.LSTM(
            1 if self.scalar else self.vocabulary, job["hidden"], job["layers"], dropout=job["dropout"]
        )
        self.dropout = torch.nn.Dropout(job["dropout"])
        self.output = torch.nn.Linear(job["hidden"], self.vocabulary)

    def forward(self, ids, state=None):
        if self.scalar:
            x = (ids.float() / self.vocabulary).unsqueeze(-1)
        else:
            x = torch.nn.functional.one_hot(ids, self.vocabulary).float()
        y, state = self.lstm(x, state)
        return self.output(self.dropout(y[-1] if self.last else y)), state


class Training:
    def __init__(self, job, ids, compiled):
        torch.manual_seed(1)
        self.job = job
        self.ids = ids
        self.model = Model(job)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=job["learningRate"],
            betas=(job["beta1"], job["beta2"]),
            eps=job["epsilon"],
            fused=True,
        )
        self.position = 0
        self.state = None

    def windows(self, count):
        """Shuffled windows: `count` matrices [T + 1, B]."""
        steps, batch = self.job["steps"], self.job["batch"]
        starts = torch.randint(0, len(self.ids) - steps, (count, batch))
        for each in starts:
            yield self.ids[torch.arange(steps + 1).unsqueeze(1) + each]

    def streams(self, count):
        """B contiguous streams: `count` matrices [T + 1, B], each beginning where the one before ended."""
        steps, batch = self.job["steps"], self.job["batch"]
        length = len(self.ids) // batch
        columns = self.ids[: length * batch].view(batch, length).t()
        for _ in range(count):
            if self.position + steps + 1 > length:
                self.position, self.state = 0, None
            yield columns[self.position : self.position + steps + 1]
            self.position += steps

    def run(self, count):
        self.model.train()
        last = self.job["target"] == "last"
        for ids in self.windows(count) if last else self.streams(count):
            self.optimizer.zero_grad(set_to_none=True)
            logits, state = self.forward(ids[:-1], None if last else self.state)
            targets = ids[-1] if last else ids[1:]
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
            loss.backward()
            if self.job["clip"] > 0:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.job["clip"])
            self.optimizer.step()
            if not last:
                self.state = tuple(each.detach() for each in state)
            nats = loss.item()
        return {"count": count, "loss": nats}


def with_threads(threads, function):
    def run(count):
        torch.set_num_threads(threads)
        return function(count)

    return run


def sliding_window(model, ids, steps):
    """Greedy: every character from the `steps` before it, from zero state."""

    @torch.inference_mode()
    def run(count):
        model.eval()
        text = ids[:steps].tolist()
        for _ in range(count):
            logits, _ = model(torch.tensor(text[-steps:]).unsqueeze(1))
            text.append(int(logits.argmax()))
        return {"count": count}

    return run


def carried_state(model, ids):
    """One character in, one drawn, the state carried on."""

    @torch.inference_mode()
    def run(count):
        model.eval()
        drawn, state = ids[:1].view(1, 1), None
        for _ in range(count):
            logits, state = model(drawn, state)
            drawn = torch.multinomial(torch.softmax(logits.view(-1), 0), 1).view(1, 1)
            drawn.item()
        return {"count": count}

    return run


def main():
    answers = claim_stdout()
    job = read_job()
    torch.set_num_threads(job["threads"])
    ids = torch.from_numpy(np.fromfile(job["ids"], dtype=np.uint8).astype(np.int64))
    candidates = {
        "eager, fused Adam": Training(job, ids, False),
        "torch.compile, fused Adam": Training(job, ids, True),
    }
    training, settings = fastest(candidates, lambda candidate: candidate.run, 4 if job["target"] == "last" else 40)
    model = training.model
    draw = sliding_window(model, ids, job["steps"]) if job["target"] == "last" else carried_state(model, ids)
    samplers = {f"{threads} thread(s)": with_threads(threads, draw) for threads in {1, job["threads"]}}
    sample, way = fastest(samplers, lambda sampler: sampler, 20)
    about = {
        "name": "PyTorch",
        "versions": {"torch": torch.__version__},
        "settings": f"{settings}; sampling with {way}",
        "parameters": sum(each.numel() for each in model.parameters()),
    }
    serve(answers, about, with_threads(job["threads"], training.run), sample)


main()
