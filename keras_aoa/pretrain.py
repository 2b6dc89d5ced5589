"""`python -m keras_aoa.pretrain`: make the network that `--backbone scenes-pretrained` takes."""

from keras_aoa.train import parse_configuration
from keras_aoa.utils.command_line import run

PURPOSE = (
    "Pretrain the small network on drawn scenes of another seed, to tell which words an image's "
    "captions have, and keep it in OUTPUT/data. Takes train.py's settings; image_size, scenes_seed "
    "and output count. train.py does the same where the network is missing."
)


def main(arguments):
    """Train the network, if it is not there."""
    configuration = parse_configuration("keras_aoa.pretrain", arguments, PURPOSE)
    import tensorflow as tf

    from keras_aoa.training.pretraining import PretrainingSettings, pretrained_file

    tf.config.experimental.enable_op_determinism()
    settings = PretrainingSettings.of(configuration)
    print(f"{pretrained_file(configuration.folder.parent / 'data', settings)}: ready.")


if __name__ == "__main__":
    run(main)
