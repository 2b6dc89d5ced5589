"""Calls Keras callbacks during a training."""

import keras


class Callbacks:
    """Calls Keras callbacks in the chief, and tells all workers when a callback ends training.

    Args:
        callbacks: List of callbacks. All workers receive the list, but only the chief calls the
            callbacks.
        process: `Process`.

    Raises:
        TypeError: an element of `callbacks` is not a Keras callback.
    """

    def __init__(self, callbacks, process):
        for callback in callbacks:
            if not isinstance(callback, keras.callbacks.Callback):
                raise TypeError(
                    "train: `callbacks` must contain objects of keras.callbacks.Callback; "
                    f"received {callback!r}."
                )
        self._process = process
        self._any = bool(callbacks)
        self._called = list(callbacks) if process.chief else []
        self._model = None

    def begin(self, trainer):
        """Pass the captioner to the callbacks, and call `on_train_begin`.

        The captioner's `optimizer` is the optimizer of all weights except the backbone's. Callbacks
        can read this optimizer's learning rate, but the trainer sets the rate again in each step.
        """
        if not self._any:
            return
        self._model = trainer.captioner
        self._model.optimizer = trainer.optimizer
        self._model.stop_training = False
        self.call("set_model", self._model)
        steps, epochs = trainer.steps_per_epoch, trainer.configuration.epochs
        self.call("set_params", {"epochs": epochs, "steps": steps, "verbose": 0})
        self.call("on_train_begin", {})

    def call(self, method, *arguments):
        """Call a method of all callbacks."""
        for callback in self._called:
            getattr(callback, method)(*arguments)

    def ended(self):
        """Return whether a callback set `stop_training`. All processes must call this method."""
        if not self._any:
            return False
        return self._process.any(self._model.stop_training)
