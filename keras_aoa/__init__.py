"""Areas of Attention for image captioning (ICCV 2017), for Keras 3 and TensorFlow."""

__version__ = "0.1.0"


def load(run, **search_settings):
    """Load a captioner, ready to caption images.

    Args:
        run: Folder of a run, or the name of a captioner in this package, such as `flickr8k`. To
            download a captioner, use `hf://owner/name` for the Hugging Face Hub, or the URL of an
            archive followed by `#sha256=` and its digest. The docstring of
            `keras_aoa.runs.named.run_folder` describes all forms of `run`. Comma-separated runs
            form an ensemble.
        search_settings: The fields of `keras_aoa.settings.search.SearchSettings`, such as `beam`,
            `min_words` or `prefix`.

    Returns:
        `keras_aoa.inference.image_captioner.ImageCaptioner`.

    Raises:
        UserError: there is no such run or captioner, a download fails, a file is damaged, the run
            has no trained weights, its files belong to different runs, or a search setting is
            out of range.
    """
    from keras_aoa.inference.image_captioner import ImageCaptioner

    return ImageCaptioner(run, **search_settings)
