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
import scipy.ndimage
import sklearn.datasets


def mnist_like(image):
    """Enlarge a small digit, ink bright on 0, as MNIST's authors did theirs.

    The ink fills a box of 20 x 20 along its longer side, and its centre of mass is at pixel
    (14, 14), where MNIST has it on average.
    """
    left, top, width, height = cv2.boundingRect(np.uint8(image > 0))
    scale = 20 / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    ink = np.float32(image[top : top + height, left : left + width])
    ink = np.clip(cv2.resize(ink, size, interpolation=cv2.INTER_CUBIC), 0, None)
    y, x = scipy.ndimage.center_of_mass(ink)
    centred = cv2.warpAffine(ink, np.float32([[1, 0, 14 - x], [0, 1, 14 - y]]), (28, 28))
    return np.uint8(np.round(centred * (255 / centred.max())))


def load_data():
    """Make the sample, split like MNIST: `x_train`, `y_train`, `x_test`, `y_test`, all uint8."""
    digits = sklearn.datasets.load_digits()
    x_train, x_test = np.split(np.stack([*map(mnist_like, digits.images)]), [1437])
    y_train, y_test = np.split(np.uint8(digits.target), [1437])
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


if __name__ == "__main__":
    try:
        np.savez_compressed(sys.argv[1], **load_data())
    except (IndexError, OSError) as error:
        sys.exit(f"Name an .npz file to write, in a folder that is there ({error}).")
    print(f"Saved {sys.argv[1]}")
