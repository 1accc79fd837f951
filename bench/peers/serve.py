"""The peer's side of the protocol that serve.js describes, for peers in Python."""

import json
import os
import sys
import time


def read_job():
    """The job given as the last argument."""
    return json.loads(sys.argv[-1])


def claim_stdout():
    """Keeps stdout for answers: what libraries print there goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(answers, about, train, sample):
    """Answers commands until stdin ends; `train` and `sample` take a count and return {"count", ...}."""

    def answer(what):
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    answer(about)
    handlers = {"train": train, "sample": sample}
    for line in sys.stdin:
        command, count = line.split()
        answer(timed(handlers[command], int(count)))


def timed(function, count):
    """Calls it and adds the seconds that it took, unless it has measured them itself."""
    started = time.perf_counter()
    done = function(count)
    return {"seconds": time.perf_counter() - started, **done}


def fastest(candidates, function_of, count):
    """The candidate whose function takes the least time for `count`, and a line that says by how much."""
    times = {}
    errors = []
    for name, candidate in candidates.items():
        try:
            function = function_of(candidate)
            function(1)
            times[name] = min(timed(function, count)["seconds"] for _ in range(3))
        except Exception as error:
            errors.append(f"{name}: {(str(error) or type(error).__name__).splitlines()[0]}")
    if not times:
        raise RuntimeError("; ".join(errors))
    best = min(times, key=times.get)
    others = [f"{name}: {seconds / times[best]:.2f} x the time" for name, seconds in times.items() if name != best]
    return candidates[best], best + (f" ({', '.join(others + errors)})" if others or errors else "")
