"""Keras on TensorFlow's CPU build: fit() with jit_compile and steps_per_execution set to whichever is faster."""

import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from serve import claim_stdout, fastest, read_job, serve  # noqa: E402

STEPS_PER_EXECUTION = 8


def build(job, batch, steps, stateful, every):
    """Ids [B, T] in; probabilities [B, T, V], or [B, V] of the last position, out."""
    vocabulary, hidden, dropout = job["vocabulary"], job["hidden"], job["dropout"]
    model = keras.Sequential()
    if job["input"] == "scalar":
        model.add(keras.Input((steps, 1)))
    else:
        model.add(keras.Input(batch_shape=(batch, steps), dtype="int32"))
        model.add(keras.layers.Lambda(lambda ids: keras.ops.one_hot(ids, vocabulary)))
    for layer in range(job["layers"]):
        sequences = every or layer + 1 < job["layers"]
        model.add(keras.layers.LSTM(hidden, return_sequences=sequences, stateful=stateful))
        model.add(keras.layers.Dropout(dropout))
    model.add(keras.layers.Dense(vocabulary, activation="softmax"))
    return model


class StepClock(keras.callbacks.Callback):
    """Times a fit from the start of its first step to the end of its last: what it sets up once is not a step's cost."""

    def on_train_begin(self, logs=None):
        self.started = None

    def on_train_batch_begin(self, batch, logs=None):
        if self.started is None:
            self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds = time.perf_counter() - self.started


class Training:
    def __init__(self, job, ids, jit, steps_per_execution):
        keras.utils.set_random_seed(1)
        self.job = job
        self.ids = ids
        self.every = job["target"] == "every"
        self.steps_per_execution = steps_per_execution
        self.model = build(job, job["batch"], job["steps"], self.every, self.every)
        optimizer = keras.optimizers.Adam(
            job["learningRate"],
            job["beta1"],
            job["beta2"],
            job["epsilon"],
            global_clipnorm=job["clip"] or None,
        )
        self.model.compile(
            optimizer,
            "sparse_categorical_crossentropy",
            jit_compile=jit,
            steps_per_execution=steps_per_execution,
        )
        self.position = 0

    def windows(self, count):
        """Shuffled windows, materialised as fit takes them."""
        steps, batch = self.job["steps"], self.job["batch"]
        starts = np.random.randint(0, len(self.ids) - steps, count * batch)
        rows = self.ids[starts[:, None] + np.arange(steps + 1)]
        x = (rows[:, :-1, None] / self.job["vocabulary"]).astype(np.float32)
        return x, rows[:, -1]

    def streams(self, count):
        """B contiguous streams, batch after batch; a stateful model carries its state from one to the next."""
        steps, batch = self.job["steps"], self.job["batch"]
        length = len(self.ids) // batch
        columns = self.ids[: length * batch].reshape(batch, length)
        matrices = []
        for _ in range(count):
            if self.position + steps + 1 > length:
                self.position = 0
            matrices.append(columns[:, self.position : self.position + steps + 1])
            self.position += steps
        rows = np.concatenate(matrices)
        return rows[:, :-1], rows[:, 1:]

    def run(self, count):
        """At least `count` steps: whole executions."""
        count = -(-count // self.steps_per_execution) * self.steps_per_execution
        x, y = self.streams(count) if self.every else self.windows(count)
        clock = StepClock()
        history = self.model.fit(
            x, y, batch_size=self.job["batch"], shuffle=not self.every, verbose=0, callbacks=[clock]
        )
        return {"count": count, "loss": history.history["loss"][0], "seconds": clock.seconds}


def predictors(model):
    """predict(), as the reference calls it for every character, and predict_on_batch()."""
    return {"predict": lambda x: model.predict(x, verbose=0), "predict_on_batch": model.predict_on_batch}


def sliding_window(predict, ids, steps, vocabulary):
    """Greedy: every character from the `steps` before it, from zero state."""

    def run(count):
        text = ids[:steps].tolist()
        for _ in range(count):
            x = np.array(text[-steps:], np.float32).reshape(1, steps, 1) / vocabulary
            text.append(int(np.argmax(predict(x))))
        return {"count": count}

    return run


def carried_state(predict, ids):
    """One character in, one drawn, the state carried on."""

    def run(count):
        drawn = int(ids[0])
        for _ in range(count):
            p = predict(np.array([[drawn]], np.int32)).reshape(-1).astype(np.float64)
            drawn = np.random.choice(len(p), p=p / p.sum())
        return {"count": count}

    return run


def main():
    answers = claim_stdout()
    job = read_job()
    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(job["threads"])
    ids = np.fromfile(job["ids"], dtype=np.uint8).astype(np.int32)
    candidates = {}
    for jit in (False, True):
        for steps_per_execution in (1, STEPS_PER_EXECUTION):
            description = f"jit_compile={jit}, steps_per_execution={steps_per_execution}"
            candidates[description] = Training(job, ids, jit, steps_per_execution)
    few = STEPS_PER_EXECUTION if job["target"] == "last" else 10 * STEPS_PER_EXECUTION
    training, settings = fastest(candidates, lambda candidate: candidate.run, few)
    if job["target"] == "last":
        samplers = {
            name: sliding_window(predict, ids, job["steps"], job["vocabulary"])
            for name, predict in predictors(training.model).items()
        }
    else:
        single = build(job, 1, 1, True, False)
        single.set_weights(training.model.get_weights())
        samplers = {name: carried_state(predict, ids) for name, predict in predictors(single).items()}
    sample, way = fastest(samplers, lambda sampler: sampler, 10)
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    about = {
        "name": "Keras",
        "versions": versions,
        "settings": f"{settings}; sampling by {way}",
        "parameters": training.model.count_params(),
    }
    serve(answers, about, training.run, sample)


main()
