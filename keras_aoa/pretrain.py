"""`keras-aoa pretrain`: train the network of `--backbone scenes-pretrained`."""

from keras_aoa.cli import start
from keras_aoa.settings.arguments import parse_configuration
from keras_aoa.utils.keras_settings import use_keras_defaults

PURPOSE = (
    "Pretrain the small network on drawn scenes of another seed, and store it in OUTPUT/data. The "
    "network learns which words occur in an image's captions. The command accepts all settings of "
    "train.py, but uses only image_size, scenes_seed and output. If the network is missing, "
    "train.py pretrains it too."
)


def main(arguments):
    """Train the network, unless its file exists."""
    configuration = parse_configuration("keras_aoa.pretrain", arguments, PURPOSE)
    use_keras_defaults()
    import tensorflow as tf

    from keras_aoa.training.pretraining import PretrainingSettings, pretrained_file

    tf.config.experimental.enable_op_determinism()
    settings = PretrainingSettings.of(configuration)
    print(f"{pretrained_file(configuration.folder.parent / 'data', settings)}: ready.")


if __name__ == "__main__":
    start("pretrain")
