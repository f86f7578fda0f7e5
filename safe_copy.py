"""Copy a model's weights, if they are plain numbers, and all in one HDF5 file.

    python safe_copy.py WHOLE.weights.h5 COPY.weights.h5

`safe_load.py` runs this in a process of its own, since HDF5's library can hang or crash on a
hostile file. It prints why a package cannot be imported; where the file is damaged, it just fails.
"""

import os
import sys


def copy_weights(whole, copied):
    """Copy the arrays of the layers, without the optimizer's."""
    import h5py

    items = {}
    with h5py.File(whole) as source, h5py.File(copied, "w") as target:
        if not isinstance(source.get("layers", getlink=True), h5py.HardLink):
            raise ValueError("The layers are missing, or elsewhere.")
        source["layers"].visititems(items.__setitem__)  # This follows no links.
        arrays = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
        if sum(array.nbytes for array in arrays.values()) > os.path.getsize(whole):
            raise ValueError("The arrays are larger than the file.")
        for name, array in arrays.items():
            is_bfloat16 = array.dtype == "V2"  # Keras stores it as two bytes, with a label.
            if array.chunks or array.external or array.is_virtual:
                raise ValueError("An array is not stored in this file, in one piece.")
            if array.dtype.kind not in "fiu" and not is_bfloat16:
                raise ValueError("An array does not hold numbers.")
            target[f"layers/{name}"] = array[()]
            if is_bfloat16:
                target[f"layers/{name}"].attrs["dtype"] = "bfloat16"


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # Each takes address space.
    if sys.platform == "linux":  # HDF5 would fill the memory with a list that leads to itself.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    try:
        copy_weights(*sys.argv[1:])
    except ImportError as error:
        print(error)
