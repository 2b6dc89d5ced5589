"""`python -m keras_aoa COMMAND` is the same as `keras-aoa COMMAND`."""

from keras_aoa.cli import command

if __name__ == "__main__":
    command()
