"""The photograph of benchmarks that caption one image."""

import pathlib


def photo_file(image=""):
    """Return the content of an image file. If `image` is empty, draw a scene of 640 x 480 pixels.

    The drawn scene is a JPEG file with the size of a photograph of COCO.
    """
    if image:
        return pathlib.Path(image).read_bytes()
    import cv2
    import numpy as np

    from keras_aoa.data.scenes.layout import draw_scene

    pixels = draw_scene(640, np.random.default_rng(0))[1][80:560]
    return cv2.imencode(".jpg", pixels[:, :, ::-1])[1].tobytes()
