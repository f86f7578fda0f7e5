"""Before step 1: find the picture files that a user means."""

import os

# Files in a folder with these endings are taken for pictures. The last four kinds cannot be read:
# they are reported, so that nobody believes they were.
PICTURE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".gif"),
)


def find_pictures(names):
    """List the pictures that were named, and those in the folders that were named.

    Args:
        names: list of strings, each the path of a picture or of a folder.

    Returns:
        `(paths, problems)`: lists of strings, the paths as they were given (for a folder, joined
        to it, in alphabetical order), and a line for each folder that has no pictures or cannot be
        opened.
    """
    paths, problems = [], []
    for name in names:
        if not os.path.isdir(name):
            paths.append(name)
            continue
        closed = []
        inside = sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(name, onerror=closed.append)
            for file in files
            if file.lower().endswith(PICTURE_ENDINGS) and not file.startswith(".")
        )
        paths += inside
        problems += [f"{error.filename}: {error.strerror}." for error in closed]
        if not inside and not closed:
            problems.append(f"{name}: there are no pictures in this folder.")
    return paths, problems
