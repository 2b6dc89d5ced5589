"""Archives that `download` fetches: their addresses, sizes and checksums."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A zip file on a server.

    Attributes:
        host: Address of the server.
        path: Path of the file on the server.
        size: Size of the file in bytes.
        sha256: SHA-256 of the file.
        unpacked: Size of the unpacked files in bytes, rounded up.
        keeps: Files and folders to unpack. If all of these files and folders exist, the archive is
            not downloaded.
    """

    host: str
    path: str
    size: int
    sha256: str
    unpacked: int
    keeps: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file name, without folders."""
        return self.path.rpartition("/")[2]


# images.cocodataset.org is this bucket, but its TLS certificate does not cover that host name.
COCO = "https://s3.amazonaws.com/images.cocodataset.org/"
STANFORD = "https://cs.stanford.edu/people/karpathy/deepimagesent/"


def _annotations(year: int) -> tuple[str, ...]:
    kinds = ("captions_train", "captions_val", "instances_train", "instances_val")
    return tuple(f"annotations/{kind}{year}.json" for kind in kinds)


# Neither COCO nor Karpathy publishes checksums. COCO's sizes and checksums are from TensorFlow
# Datasets, url_checksums/coco.txt, and agree with torchvision's prototype data sets. Two unrelated
# projects recorded the size and checksum of Karpathy's archive.
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "coco2014": (
        Archive(
            COCO,
            "annotations/annotations_trainval2014.zip",
            252_872_794,
            "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
            600_000_000,
            _annotations(2014),
        ),
        Archive(
            COCO,
            "zips/val2014.zip",
            6_645_013_297,
            "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            6_800_000_000,
            ("val2014",),
        ),
        Archive(
            COCO,
            "zips/train2014.zip",
            13_510_573_713,
            "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            13_800_000_000,
            ("train2014",),
        ),
    ),
    "coco2017": (
        Archive(
            COCO,
            "annotations/annotations_trainval2017.zip",
            252_907_541,
            "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            600_000_000,
            _annotations(2017),
        ),
        Archive(
            COCO,
            "zips/val2017.zip",
            815_585_330,
            "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            830_000_000,
            ("val2017",),
        ),
        Archive(
            COCO,
            "zips/train2017.zip",
            19_336_861_798,
            "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            19_700_000_000,
            ("train2017",),
        ),
    ),
    "karpathy": (
        Archive(
            STANFORD,
            "caption_datasets.zip",
            36_745_453,
            "4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817",
            192_000_000,
            ("dataset_coco.json", "dataset_flickr8k.json", "dataset_flickr30k.json"),
        ),
    ),
}
