"""Train both networks with their default settings, several times, and print the evidence.

    python tests/benchmark.py --seeds 20 --against-keras-example
    python tests/benchmark.py --seeds 2 --without flags augmentation schedule

Each training is the real script in a process of its own. The first form also trains the network of
Keras's own example `mnist_convnet` by that example's recipe, with the first five seeds. The
networks take turns, so that a machine that slows down slows all of them. The second form asks what
each trick gains: on validation images, with the scripts as they are and with one trick edited out.
"""

import argparse
import concurrent.futures
import contextlib
import importlib.metadata
import io
import multiprocessing
import os
import pathlib
import platform
import runpy
import sys
import tempfile
import time

import cv2
import keras
import numpy as np
import scipy.ndimage
import scipy.stats
from keras import layers

ROOT = pathlib.Path(__file__).parent.parent
CNN, ANN, EXAMPLE = "train_cnn.py", "train_ann.py", "Keras's mnist_convnet"
EXAMPLE_SEEDS = 5
TRICKS = {  # What stands in the scripts, and what to write in its place.
    "flags": ("[::4]:", "[:0]:"),
    "augmentation": (".map(augment)", ""),
    "schedule": ("Adam(schedule)", "Adam(settings.learning_rate)"),
    "steps_per_execution": ("max(1, steps // 10)", "1"),
    "autotune_off": ("enabled = False", "enabled = True"),
}


def train_keras_example(seed):
    """Train the network of Keras's example `mnist_convnet` by that example's recipe."""
    keras.utils.set_random_seed(seed)
    (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    x_train = x_train[..., np.newaxis].astype("float32") / 255
    model.fit(x_train, y_train, batch_size=128, epochs=15, validation_split=0.1)
    return {"model": model, "x_test": x_test.astype("float32") / 255, "y_test": y_test}
