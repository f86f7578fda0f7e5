"""Real handwriting for machines without internet: scikit-learn's digits in MNIST's form.

    python tests/sample_digits.py sample_digits.npz
    python train_cnn.py --data sample_digits.npz --batch-size 16 --epochs 20

The 1,797 digits were scanned for the National Institute of Standards and Technology, as MNIST's
were, from forms filled in by 13 people, and reduced to 8 x 8 pixels (E. Alpaydin and C. Kaynak,
Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, CC BY 4.0).
"""

import sys

import cv2
import numpy as np
import sklearn.datasets


def mnist_like(image):
    """Enlarge one small digit as MNIST's authors made theirs.

    Args:
        image: array of shape `(height, width)`, ink bright on 0, with some ink.

    Returns:
        uint8 array of shape `(28, 28)`: the ink fills a box of 20 x 20 along its longer side,
        and its centre of mass is at pixel (14, 14), where MNIST has it on average.
    """
    rows, columns = np.nonzero(image.max(axis=1))[0], np.nonzero(image.max(axis=0))[0]
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    scale = 20 / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape[::-1]]
    ink = np.clip(cv2.resize(ink, size, interpolation=cv2.INTER_CUBIC), 0, None)
    rows, columns = np.indices(ink.shape)
    shift_x = 14 - np.average(columns, weights=ink)
    shift_y = 14 - np.average(rows, weights=ink)
    centred = cv2.warpAffine(ink, np.float32([[1, 0, shift_x], [0, 1, shift_y]]), (28, 28))
    return np.round(centred * (255 / centred.max())).astype(np.uint8)


def load_data():
    """Make the sample, split like MNIST.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images of shape `(1437, 28, 28)` and
        `(360, 28, 28)`, ink bright on dark, and uint8 labels, 0 to 9.
    """
    digits = sklearn.datasets.load_digits()
    images = np.stack([mnist_like(image) for image in digits.images])
    labels = digits.target.astype(np.uint8)
    return (images[:1437], labels[:1437]), (images[1437:], labels[1437:])


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].endswith(".npz"):
        sys.exit("usage: python tests/sample_digits.py FILE.npz")
    (x_train, y_train), (x_test, y_test) = load_data()
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    try:
        np.savez_compressed(sys.argv[1], **arrays)
    except OSError as error:
        sys.exit(f"{sys.argv[1]} cannot be written: {error.strerror}.")
    print(f"Saved {sys.argv[1]}")
