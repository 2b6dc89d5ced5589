"""`keras-aoa propose`: find the object proposals of a data set before training."""

from dataclasses import replace

from keras_aoa.cli import start
from keras_aoa.settings.arguments import parse_configuration

PURPOSE = (
    "Find the object proposals of all images of a data set and store them in OUTPUT/data. The "
    "command accepts all settings of train.py, but uses only the data settings, "
    "proposal_method, edge_model and output."
)


def main(arguments):
    """Find the proposals that are not stored yet, one split after another."""
    configuration = parse_configuration("keras_aoa.propose", arguments, PURPOSE)
    from keras_aoa.data.build import proposal_view, read_data
    from keras_aoa.data.proposals.edge_boxes import check_opencv

    check_opencv()
    view = proposal_view(
        replace(configuration, regions="proposals", crop=1.0), configuration.output
    )
    data = read_data(configuration, configuration.output)
    from keras_aoa.data.images.preprocessing import why_unreadable
    from keras_aoa.data.proposals.cache import ProposalCache
    from keras_aoa.utils.text import printable

    cache = ProposalCache(view.folder, view.search)
    for split, examples in data.splits.items():
        paths = [example.path for example in examples]
        unread = cache.extract(paths, f"{split}: proposals")
        print(f"{split}: proposals of {len(paths) - len(unread)} of {len(paths)} images are ready.")
        for path in unread:
            print(f"{split}: cannot read {printable(path)}: {why_unreadable(path)}.")
    print(f"The proposals are in {cache.folder}.")


if __name__ == "__main__":
    start("propose")
