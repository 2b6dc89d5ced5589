"""Words that people use for COCO's 80 categories, to match captions with boxes.

The lists omit words that often mean something else ("a couple of zebras", "a baby elephant",
"baseball" for the game), and desks, which COCO does not annotate.
"""

import functools

# Further names of each category, in the singular. `nouns_of` adds the category itself and, except
# for `hot dog`, its last word.
SYNONYMS: dict[str, str] = {
    "person": "man, woman, boy, girl, child, kid, toddler, infant, guy, lady, gentleman, "
    "player, batter, pitcher, catcher, umpire, skier, snowboarder, skateboarder, surfer, rider, "
    "biker, cyclist, motorcyclist, pedestrian, driver, passenger, worker, chef, waiter, "
    "waitress, soldier, officer, policeman, fireman, cowboy, bride, groom, "
    "teenager, student, tourist, spectator, someone, human, people, mom, dad, son, daughter, "
    "brother, sister, friend",
    "bicycle": "bike",
    "car": "automobile, sedan, suv, minivan, taxi, cab, jeep",
    "motorcycle": "motorbike, scooter, moped, dirt bike",
    "airplane": "plane, jet, aeroplane, aircraft, airliner, jetliner, biplane, jumbo jet",
    "bus": "double decker, minibus",
    "train": "locomotive, tram, trolley",
    "truck": "pickup, van, firetruck, lorry, semi",
    "boat": "ship, sailboat, canoe, kayak, ferry, yacht, raft, rowboat, motorboat, barge",
    "traffic light": "stoplight, traffic signal, stop light",
    "fire hydrant": "",
    "stop sign": "",
    "parking meter": "",
    "bench": "",
    "bird": "duck, goose, seagull, gull, pigeon, parrot, owl, eagle, hawk, swan, rooster, "
    "peacock, flamingo, ostrich, penguin, parakeet, heron, pelican, crow",
    "cat": "kitten, kitty",
    "dog": "puppy, pup, poodle, bulldog, terrier, labrador, retriever, dachshund, hound",
    "horse": "pony, foal, stallion, mare, colt",
    "sheep": "lamb, ram, ewe, sheep",
    "cow": "bull, calf, ox, steer, heifer, cattle",
    "elephant": "",
    "bear": "cub, polar bear, grizzly",
    "zebra": "",
    "giraffe": "",
    "backpack": "rucksack, knapsack",
    "umbrella": "parasol",
    "handbag": "purse, hand bag",
    "tie": "necktie, bow tie",
    "suitcase": "luggage, baggage",
    "frisbee": "disc, disk",
    "skis": "ski",
    "snowboard": "snow board",
    "sports ball": "tennis ball, soccer ball",
    "kite": "",
    "baseball bat": "",
    "baseball glove": "mitt",
    "skateboard": "skate board, longboard",
    "surfboard": "surf board",
    "tennis racket": "racquet, tennis racquet",
    "bottle": "",
    "wine glass": "goblet, wineglass",
    "cup": "mug",
    "fork": "",
    "knife": "",
    "spoon": "",
    "bowl": "",
    "banana": "",
    "apple": "",
    "sandwich": "burger, hamburger, cheeseburger",
    "orange": "tangerine, clementine",
    "broccoli": "",
    "carrot": "",
    "hot dog": "hotdog, frankfurter",
    "pizza": "",
    "donut": "doughnut",
    "cake": "cupcake, cheesecake",
    "chair": "armchair, stool, recliner",
    "couch": "sofa, loveseat",
    "potted plant": "houseplant, flowerpot",
    "bed": "",
    "dining table": "",
    "toilet": "",
    "tv": "television, monitor, tv screen, flat screen",
    "laptop": "notebook computer, laptop computer, macbook",
    "mouse": "computer mouse",
    "remote": "remote control, wii remote, wiimote, controller",
    "keyboard": "computer keyboard",
    "cell phone": "cellphone, mobile phone, smartphone, telephone, iphone",
    "microwave": "microwave oven",
    "oven": "stove",
    "toaster": "toaster oven",
    "sink": "washbasin",
    "refrigerator": "fridge, freezer",
    "book": "magazine, novel",
    "clock": "",
    "vase": "",
    "scissors": "",
    "teddy bear": "teddy, stuffed bear, stuffed animal",
    "hair drier": "hair dryer, hairdryer, blow dryer",
    "toothbrush": "tooth brush",
}
IRREGULAR = {
    "person": "persons",  # "people" is also a synonym
    "man": "men",
    "woman": "women",
    "child": "children",
    "gentleman": "gentlemen",
    "policeman": "policemen",
    "fireman": "firemen",
    "goose": "geese",
    "calf": "calves",
    "ox": "oxen",
    "knife": "knives",
    "mouse": "mice",
}
ALREADY_PLURAL = {"people", "cattle", "sheep", "skis", "scissors", "luggage", "baggage", "broccoli"}


@functools.cache
def nouns_of(category: str) -> frozenset[str]:
    """Return all names of a category, in singular and plural.

    The names of an unknown category are the category itself and its last word.
    """
    listed = filter(None, SYNONYMS.get(category, "").split(", "))
    # The last word of a category also names it, but a hot dog is not a dog.
    own = {category} if category == "hot dog" else {category, category.split()[-1]}
    names = own.union(listed)
    return frozenset(names | {plural(name) for name in names})


def plural(noun: str) -> str:
    """Return the plural of a noun; in a noun of several words, only the last word changes."""
    *before, word = noun.split(" ")
    if word in ALREADY_PLURAL:
        ending = word
    elif word in IRREGULAR:
        ending = IRREGULAR[word]
    elif word.endswith(("s", "x", "ch", "sh")):
        ending = f"{word}es"
    elif word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        ending = f"{word[:-1]}ies"
    else:
        ending = f"{word}s"
    return " ".join([*before, ending])
