"""Step 2: find the page in the picture, and leave out what lies around it."""

import cv2
import numpy as np

from handwriting.images import distance_to_zero, fill_in, odd, resize, square, where_dark

# A side of 2,000 pixels leaves 20 for the height of a digit on a page with 70 lines of them; on
# one of 480, the strokes of a drawing of 28 x 28 are wide enough to be measured.
LONGEST_SIDE, SHORTEST_SIDE = 2_000, 480
# The page is looked for in a picture reduced to the first size. A picture smaller than the second
# has no room for a table, and strokes as thick as one.
SMALL_SIDE, SMALLEST_SCENE = 320, 200
STEP, STEP_WIDTH = 0.1, 9  # By what share light changes at an edge, over how many pixels.
MIN_PAGE, MIN_PART = 0.1, 0.015  # Of the area of the picture.
MIN_INK = 0.002  # Of the area of the page: at least a stroke.
MIN_SOLIDITY = 0.75  # A page fills more of its convex hull; a table around it does not.
MAX_HUE_DIFFERENCE = 0.04  # Between parts of a page, in the shares of red, green and blue.
MIN_SHADOW, MIN_LIT = 0.35, 0.8  # How bright a part of the page is, in a shadow and elsewhere.
MIN_DEPTH = 0.08  # Of the shorter side: how far a table or a finger reaches from the page.


def find_page(picture):
    """Find the page that the ink is on, and paint over what lies around it.

    Args:
        picture: uint8 array of shape `(height, width, 3)`, RGB.

    Returns:
        `(page, corner, scale, outline)`: the page, a uint8 array of shape `(rows, columns, 3)`
        with a longer side of 480 to 2,000 pixels, in which everything around the page has the
        colour of the paper nearby; its left and top in pixels of the picture; how many of its
        pixels there are to one of the picture; and the outline of the page, an int array of shape
        `(n, 2)`, x and y in pixels of the picture, or `None` where the page fills the photo.
    """
    picture, corner = crop_margin(picture)
    small_scale = min(1, SMALL_SIDE / max(picture.shape))
    small = resize(picture, small_scale)
    paper = remove_ink(small)
    around = find_surroundings(small, paper)
    if not around.any():
        scale = working_scale(picture)
        return resize(picture, scale), corner, scale, None
    contours, _ = cv2.findContours(1 - around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = np.int32(max(contours, key=cv2.contourArea)[:, 0] / small_scale)
    left, top, width, height = cv2.boundingRect(1 - around)
    # The edge of the page is blurred: the paint begins a little inside it.
    around = cv2.dilate(around, square(5))
    paint = cv2.inpaint(paper, around, 3, cv2.INPAINT_TELEA)
    paint, cover = (
        image[top : top + height, left : left + width] for image in (paint, 255 * around)
    )
    left, top, right, bottom = (
        round(side / small_scale) for side in (left, top, left + width, top + height)
    )
    page = picture[top:bottom, left:right]
    scale = working_scale(page)
    page = resize(page, scale)
    paint, cover = (cv2.resize(image, page.shape[1::-1]) for image in (paint, cover))
    page = np.where(cover[..., np.newaxis] > 127, paint, page)
    return page, (corner[0] + left, corner[1] + top), scale, outline + np.int32(corner)


def crop_margin(picture):
    """Leave out a plain margin that a program has put around a photo: `(photo, corner)`."""
    scale = min(1, SMALL_SIDE / max(picture.shape))
    small = resize(picture, scale)
    photo = np.uint8((cv2.absdiff(small, np.full_like(small, small[0, 0])) > 8).any(axis=2))
    left, top, width, height = cv2.boundingRect(photo)
    fills_its_box = photo.sum() > 0.9 * width * height > 0.5 * photo.size
    if not fills_its_box or width * height == photo.size or min(width, height) < 3:
        return picture, (0, 0)
    # The edge of the photo is blurred by a pixel.
    left, top, right, bottom = (
        round(side / scale) for side in (left + 1, top + 1, left + width - 1, top + height - 1)
    )
    return picture[top:bottom, left:right], (left, top)


def find_surroundings(picture, paper):
    """Find what is not the page, such as a table or a finger.

    A page is large and bright, has ink on it, and is of one colour, on which light changes slowly.
    At the edge of a shadow there is a step, and beyond it another part of the page, of the same
    hue. What lies around the page is darker or more colourful, and reaches the edge of the picture;
    no stroke of a pen is as thick.

    Args:
        picture: uint8 array of shape `(height, width, 3)`, small.
        paper: the same without ink, from `remove_ink`.

    Returns:
        uint8 array of shape `(height, width)`: 1 around the page, 0 on it.
    """
    light = np.log(np.float32(paper) + 16)
    change = cv2.morphologyEx(light, cv2.MORPH_GRADIENT, square(3)).max(axis=2)
    labels, area = regions(change < STEP)
    area[0] = 0  # The steps.
    is_solid = area > MIN_PART
    for label in np.flatnonzero(is_solid):
        is_solid[label] = solidity(labels == label) > MIN_SOLIDITY
    count = np.maximum(1, np.bincount(labels.ravel()))
    channels = (*cv2.split(paper), where_dark(picture, paper))
    *colour, ink = (np.bincount(labels.ravel(), values.ravel()) / count for values in channels)
    colour = 1 + np.transpose(colour)
    main = np.argmax(is_solid * (ink > MIN_INK) * area * colour.min(axis=1))
    if area[main] < MIN_PAGE or max(paper.shape) < SMALLEST_SCENE:
        return np.zeros(labels.shape, np.uint8)
    hue = colour / colour.sum(axis=1, keepdims=True)
    brightness = colour.sum(axis=1) / colour[main].sum()
    is_page = (abs(hue - hue[main]).max(axis=1) < MAX_HUE_DIFFERENCE) & (
        (brightness > MIN_LIT) | is_solid & (brightness > MIN_SHADOW)
    )
    is_page[0] = False
    # The steps are closed up; at the picture's edge, what is there goes on.
    padded = np.pad(np.uint8(is_page[labels]), STEP_WIDTH, mode="edge")
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, square(STEP_WIDTH))
    other = 1 - closed[STEP_WIDTH:-STEP_WIDTH, STEP_WIDTH:-STEP_WIDTH]
    labels, _ = regions(other)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    thick = distance_to_zero(other) > MIN_DEPTH * min(other.shape)
    around = np.isin(labels, np.intersect1d(edges, labels[thick]))
    # The largest region of what is left is the page.
    labels, area = regions(~around)
    return np.uint8(labels != 1 + np.argmax(area[1:]))


def regions(mask):
    """Label connected regions; return the labels, and the share of the mask that each takes."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(np.uint8(mask), connectivity=4)
    return labels, boxes[:, cv2.CC_STAT_AREA] / mask.size


def solidity(mask):
    """Return what share of its convex hull a region fills."""
    contours, _ = cv2.findContours(np.uint8(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    return mask.sum() / max(1, cv2.contourArea(cv2.convexHull(contour)))


def remove_ink(picture):
    """Fill in what is dark and narrower than a sixteenth of the picture: ink, and ruled lines."""
    size = odd(max(picture.shape) / 16)
    mirrored = cv2.copyMakeBorder(picture, *[size] * 4, cv2.BORDER_REFLECT)
    return np.ascontiguousarray(fill_in(mirrored, size, 5)[size:-size, size:-size])


def working_scale(page):
    """Return by how much to resize a page for the next steps."""
    return np.clip(max(page.shape), SHORTEST_SIDE, LONGEST_SIDE) / max(page.shape)
