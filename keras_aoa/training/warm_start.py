"""Warm start: initializes a captioner with the weights of another run."""

from keras_aoa.models.image_inputs import IMAGE_LAYERS
from keras_aoa.runs.named import run_folder
from keras_aoa.runs.run import Run
from keras_aoa.utils.errors import UserError

# With other values of these settings, weights have the same shapes but another meaning.
MEANING = (
    "preprocessing",
    "map_layer",
    "vector_layer",
    "feature_length",
    "image_first",
    "image_each_step",
    "concepts",
)
# The same for the weights of spatial transformers.
TRANSFORMER_MEANING = ("transformer_filter", "anchor_scale", "rotation")


class WarmStart:
    """Loads weights from the trained captioner of another run.

    Args:
        folder: The other run's folder.

    Attributes:
        earlier_runs: Number of runs in the chain of `start_from`, up to the other run.

    Raises:
        UserError: the folder contains no trained run.
    """

    def __init__(self, folder):
        self.run = Run(run_folder(folder))
        self.source = self.run.load_captioner()
        self.earlier_runs = self.run.record["earlier_runs"] + 1

    def check_settings(self, configuration):
        """Check that both runs agree in the settings that change the meaning of weights.

        Raises:
            UserError: a setting that changes the meaning of weights differs.
        """
        theirs = self.run.configuration
        both = configuration.regions == theirs.regions == "transformer"
        for name in (*MEANING, *(TRANSFORMER_MEANING if both else ())):
            own, their = getattr(configuration, name), getattr(theirs, name)
            if own != their:
                raise self._refusal(
                    f"has {name} {their!r}, here {own!r}", f"set {name} to {their!r}"
                )

    def check_vocabulary(self, vocabulary):
        """Check that word ids mean the same words in both runs.

        Raises:
            UserError: the vocabularies differ.
        """
        theirs = self.run.vocabulary
        if theirs.digest != vocabulary.digest:
            raise self._refusal(
                f"has another vocabulary ({len(theirs)} words, here {len(vocabulary)})",
                "use the data, minimum_count, select_images and select_seed of that run (if its "
                "select_seed is -1, its seed)",
            )

    def check_attributes(self, words):
        """Check that both runs predict the same attributes, in the same order.

        Args:
            words: The attributes of the new run. Without attributes, empty.

        Raises:
            UserError: the attributes differ.
        """
        theirs = tuple(self.run.vocabulary.words[word] for word in self.run.concept_ids)
        if theirs != tuple(words):
            other = next((word for word in theirs if word not in words), None)
            named = f", such as {other!r}" if other else ""
            raise self._refusal(
                f"predicts other attributes ({len(theirs)} words{named}, here {len(words)})",
                f"set concept_count to {len(theirs)}, or train without start_from",
            )

    def load(self, captioner):
        """Copy all weights that both captioners have, including the backbone's.

        Returns:
            A log line that lists the loaded weights, the new weights of this captioner, and the
            other run's weights that this captioner does not need.

        Raises:
            UserError: weights with the same name have different shapes.
        """
        loaded, new, unused = ["backbone"], [], []
        self._load_in_order("backbone", captioner.backbone, self.source.backbone)
        for name in ("cell", *IMAGE_LAYERS):
            self._load_by_name(name, captioner, loaded, new, unused)
        for name in ("regions", "region_backbone"):
            own, theirs = getattr(captioner, name), getattr(self.source, name)
            has, had = (bool(part and part.variables) for part in (own, theirs))
            if has and had and type(own) is type(theirs):
                self._load_in_order(name, own, theirs)
                loaded.append(name)
            elif has:
                copied = " (a copy of the backbone)" if name == "region_backbone" else ""
                new.append(f"{name}{copied}")
            elif had:
                unused.append(name)
        return (
            f"Starting from {self.run.folder}: loaded {', '.join(loaded)}; "
            f"new {', '.join(new) or 'nothing'}; not needed {', '.join(unused) or 'nothing'}."
        )

    def _load_by_name(self, name, captioner, loaded, new, unused):
        own, theirs = (
            {variable.name: variable for variable in getattr(getattr(part, name), "variables", ())}
            for part in (captioner, self.source)
        )
        for variable in own.keys() & theirs.keys():
            self._require_shape(f"{name}'s {variable}", own[variable], theirs[variable])
        for variable in own.keys() & theirs.keys():
            own[variable].assign(theirs[variable])
        if own and theirs:
            loaded.append(f"{name} ({len(own.keys() & theirs.keys())} arrays)")
        new += [f"{name}'s {variable}" for variable in own if variable not in theirs]
        unused += [f"{name}'s {variable}" for variable in theirs if variable not in own]

    def _load_in_order(self, name, own, theirs):
        if len(own.variables) != len(theirs.variables):
            raise self._refusal(
                f"has another {name} ({len(theirs.variables)} arrays, here {len(own.variables)})",
                "choose the settings of that run",
            )
        for variable, their in zip(own.variables, theirs.variables, strict=True):
            self._require_shape(f"{name}'s {variable.name}", variable, their)
        for variable, their in zip(own.variables, theirs.variables, strict=True):
            variable.assign(their)

    def _require_shape(self, name, own, theirs):
        if tuple(own.shape) != tuple(theirs.shape):
            raise self._refusal(
                f"has {name} of shape {tuple(theirs.shape)}, here {tuple(own.shape)}",
                "choose the settings of that run",
            )

    def _refusal(self, problem, remedy):
        return UserError(f"start_from: {self.run.folder} {problem}; {remedy}.")
