"""Areas of Attention for image captioning (ICCV 2017), for Keras 3 and TensorFlow."""

__version__ = "0.1.0"


def load(run):
    """Load a trained run, ready to caption images.

    Args:
        run: The run's folder, or several with commas between, which then speak together.

    Returns:
        `keras_aoa.inference.image_captioner.ImageCaptioner`.

    Raises:
        UserError: no run there, nothing trained, or files that do not belong together.
    """
    from keras_aoa.inference.image_captioner import ImageCaptioner

    return ImageCaptioner(run)
