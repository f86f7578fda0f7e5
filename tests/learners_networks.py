"""Networks that learners build: what people change first, and what Keras's guides show them."""

import keras
import numpy as np
from keras import layers


def sequential(*inner, shape=(28, 28, 1)):
    return keras.Sequential([keras.Input(shape), *inner])


def functional(call, shape=(28, 28, 1)):
    image = keras.Input(shape)
    return keras.Model(image, call(image))


def end():
    return layers.Dense(10, activation="softmax")


def residual(image):
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    frozen = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x), training=False)
    x = layers.Add()([x, frozen])
    pool = layers.MaxPooling2D(3)  # Used twice.
    x = layers.Concatenate()([pool(x), pool(layers.Conv2D(4, 3, padding="same")(x))])
    return end()(layers.GlobalAveragePooling2D()(x))


def operations(image):
    x = keras.ops.reshape(1.0 - image / 255 * 2.0, (-1, 28, 28))
    left, right = keras.ops.split(x - np.linspace(0, 1, 28, dtype="float32"), 2, axis=2)
    rows = [keras.ops.max(left, axis=1), keras.ops.mean(right, axis=1), x[:, 3], x[:, -1, ::2]]
    x = keras.ops.concatenate(rows, axis=-1)
    x = layers.Dense(6)(keras.ops.cast(x, "float32")) + layers.Dense(6)(x)
    x = keras.ops.where(x > -1e9, keras.activations.relu(x), keras.ops.zeros(6))
    return keras.activations.softmax(layers.Dense(10)(keras.ops.tanh(x)))


def nested(image):
    pipeline = layers.Pipeline([layers.RandomTranslation(0.1, 0.1), layers.RandomContrast(0.1)])
    augment = keras.Sequential(
        [pipeline, layers.RandomZoom(0.1, seed=3), layers.GaussianNoise(0.1)]
    )
    inner = functional(layers.Conv2D(1, 3, padding="same", activation="relu"))
    return end()(layers.Flatten()(inner(inner(augment(image)))))


def attention(image):
    x = layers.Dense(8)(layers.Reshape((49, 16))(image))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    return end()(layers.GlobalAveragePooling1D()(layers.Attention()([x, x])))


NETWORKS = {
    "dropout and activations": lambda: sequential(
        layers.Conv2D(6, 3, kernel_initializer="he_normal", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(3),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(9, keras.activations.relu, kernel_constraint="max_norm"),
        layers.PReLU(),
        layers.Activation("gelu"),
        layers.Dense(9, activation=layers.LeakyReLU()),
        layers.Dense(10),
        layers.Softmax(),
    ),
    "no Input, own names": lambda: keras.Sequential(
        [layers.Rescaling(2.0, offset=-1), layers.Flatten(name="my_flat"), end()], name="my_net"
    ),
    "rows": lambda: sequential(
        layers.Normalization(mean=[0.1] * 28, variance=[0.3] * 28),
        layers.Bidirectional(layers.LSTM(6, return_sequences=True, dropout=0.1)),
        layers.TimeDistributed(layers.Dense(5)),
        layers.Conv1D(5, 3, padding="causal"),
        layers.Bidirectional(layers.GRU(5, return_sequences=True), merge_mode="sum"),
        layers.SimpleRNN(4, unroll=True),
        end(),
        shape=(28, 28),
    ),
    "mixed precision": lambda: sequential(
        layers.Conv2D(4, 5, 3, activation=keras.ops.relu, dtype="mixed_bfloat16"),
        layers.AveragePooling2D(2, dtype="mixed_bfloat16"),
        layers.Flatten(),
        layers.Dense(8, dtype="bfloat16"),
        end(),
    ),
    "residual": lambda: functional(residual),
    "operations": lambda: functional(operations),
    "nested": lambda: functional(nested),
    "attention": lambda: functional(attention, (28, 28)),
}
