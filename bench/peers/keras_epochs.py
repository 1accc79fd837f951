"""Keras' own run of the reference's recipe on a text: one line of JSON a seed, with the mean training loss of every epoch.

    python3 keras_epochs.py TEXT --epochs 4 --seeds 1,2,3 --threads 2

Scalar coding id / V, shuffled windows of 100, LSTM(256) - Dropout(0.2) - LSTM(256) - Dropout(0.2) - Dense(V, softmax),
Adam's defaults, batch 64: every other setting is Keras' own. Losses are in nats, dropout on.
"""

import argparse
import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from serve import claim_stdout  # noqa: E402

WINDOW, BATCH, HIDDEN, DROPOUT = 100, 64, 256, 0.2


class FirstLoss(keras.callbacks.Callback):
    """Keeps the loss of the first batch, which is computed before any step."""

    loss = None

    def on_train_batch_end(self, batch, logs=None):
        if self.loss is None:
            self.loss = float(logs["loss"])


def train(x, y, vocabulary, epochs, seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((WINDOW, 1)),
            keras.layers.LSTM(HIDDEN, return_sequences=True),
            keras.layers.Dropout(DROPOUT),
            keras.layers.LSTM(HIDDEN),
            keras.layers.Dropout(DROPOUT),
            keras.layers.Dense(vocabulary, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    first = FirstLoss()
    history = model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=True, verbose=0, callbacks=[first])
    return {"seed": seed, "firstLoss": first.loss, "losses": [float(loss) for loss in history.history["loss"]]}


def main():
    answers = claim_stdout()
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    with open(options.text, encoding="utf-8", newline="") as file:
        text = file.read()
    symbols = sorted(set(text))
    ids = np.array([symbols.index(symbol) for symbol in text])
    rows = ids[np.arange(len(ids) - WINDOW)[:, None] + np.arange(WINDOW + 1)]
    x, y = (rows[:, :-1, None] / len(symbols)).astype(np.float32), rows[:, -1]
    about = {"symbols": len(symbols), "windows": len(y), "keras": keras.__version__, "tensorflow": tf.__version__}
    print(json.dumps(about), file=answers, flush=True)
    for seed in options.seeds.split(","):
        print(json.dumps(train(x, y, len(symbols), options.epochs, int(seed))), file=answers, flush=True)


main()
