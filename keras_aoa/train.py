"""`keras-aoa train` and `python train.py`: train a captioner."""

from keras_aoa.cli import start
from keras_aoa.settings.arguments import parse_configuration, preset, take_config
from keras_aoa.settings.effects import require_effects
from keras_aoa.utils.keras_settings import use_keras_defaults

PURPOSE = "Train a captioner, evaluate it, and draw the regions that it attends to."


def main(arguments):
    """Train with the settings of `--config`, changed by the other arguments."""
    configuration = parse_configuration("train.py", arguments, PURPOSE)
    require_effects(configuration, preset(take_config(arguments)[0]))
    use_keras_defaults()
    from keras_aoa.training.loop import train

    train(configuration)


if __name__ == "__main__":
    start("train")
