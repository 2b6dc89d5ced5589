"""Areas of Attention for image captioning (ICCV 2017), for Keras 3 and TensorFlow."""

__version__ = "0.1.0"


def load(run):
    """Load a trained run, ready to caption images.

    Args:
        run: Folder of the run; comma-separated runs form an ensemble.

    Returns:
        `keras_aoa.inference.image_captioner.ImageCaptioner`.

    Raises:
        UserError: the folder contains no run, the run has no trained weights, or its files belong
            to different runs.
    """
    from keras_aoa.inference.image_captioner import ImageCaptioner

    return ImageCaptioner(run)
