"""Words and phrases of the generated captions; each choice is `{text: weight}`."""

Choice = dict[str, float]

NOUNS: dict[str, Choice] = {
    "ball": {"ball": 0.8, "sphere": 0.2},
    "square": {"box": 0.65, "square": 0.35},
    "triangle": {"triangle": 1},
    "star": {"star": 1},
    "heart": {"heart": 1},
    "ring": {"ring": 0.8, "hoop": 0.2},
    "cross": {"cross": 1},
    "moon": {"moon": 0.8, "crescent": 0.2},
    "flower": {"flower": 0.85, "blossom": 0.15},
    "tree": {"tree": 1},
    "house": {"house": 0.8, "cottage": 0.2},
    "fish": {"fish": 1},
    "boat": {"boat": 0.75, "ship": 0.25},
    "table": {"table": 0.85, "desk": 0.15},
    "cup": {"cup": 0.7, "mug": 0.3},
    "car": {"car": 1},
}
COLOR_WORDS: dict[str, Choice] = {"purple": {"purple": 0.8, "violet": 0.2}}
SIZE_WORDS: dict[str, Choice] = {
    "big": {"big": 0.5, "large": 0.4, "huge": 0.1},
    "medium": {},
    "small": {"small": 0.6, "little": 0.25, "tiny": 0.15},
}
TEXTURE_WORDS: dict[str, Choice] = {
    "plain": {},
    "striped": {"striped": 0.85, "stripy": 0.15},
    "dotted": {"dotted": 0.5, "spotted": 0.5},
    "checked": {"checked": 0.75, "chequered": 0.25},
}

ON_TINT: Choice = {
    "on a {tint} background": 0.5,
    "on a plain {tint} background": 0.2,
    "against a {tint} background": 0.2,
    "on a pale {tint} backdrop": 0.1,
}
PLACES: dict[str, Choice] = {
    "grass": {"on the grass": 0.5, "on green grass": 0.25, "on a lawn": 0.1, "in a meadow": 0.15},
    "sand": {"on the sand": 0.5, "on the beach": 0.3, "on yellow sand": 0.2},
    "water": {"in the water": 0.5, "on blue water": 0.25, "in the sea": 0.25},
    "night": {"in the night sky": 0.5, "in a dark sky": 0.25, "at night": 0.25},
    "sky": {"in a blue sky": 0.4, "in a cloudy sky": 0.3, "among white clouds": 0.3},
    "snow": {"in the snow": 0.7, "on white snow": 0.3},
    "brick": {"against a brick wall": 0.6, "on a wall of bricks": 0.2, "on a red wall": 0.2},
    "wood": {"on a wooden floor": 0.6, "on wooden boards": 0.2, "on brown wood": 0.2},
    "tiles": {"on a tiled floor": 0.6, "on grey tiles": 0.4},
}
# Openings that name the background; "with ..." follows.
VIEWS: dict[str, Choice] = {
    "grass": {"a grassy field": 0.6, "a green meadow": 0.4},
    "sand": {"a sandy beach": 1},
    "water": {"the blue sea": 1},
    "night": {"a starry sky": 0.6, "a dark sky": 0.4},
    "sky": {"a cloudy sky": 0.6, "a blue sky": 0.4},
    "snow": {"a snowy field": 1},
    "brick": {"a brick wall": 1},
    "wood": {"a wooden floor": 1},
    "tiles": {"a tiled floor": 1},
}
TINTED_VIEW: Choice = {"a {tint} background": 1}

# "A ball ... a box"
BETWEEN: dict[str, Choice] = {
    "left": {"to the left of": 0.5, "left of": 0.3, "on the left of": 0.1, "next to": 0.1},
    "right": {"to the right of": 0.5, "right of": 0.3, "on the right of": 0.1, "beside": 0.1},
    "above": {"above": 0.75, "over": 0.25},
    "below": {"below": 0.6, "under": 0.25, "beneath": 0.15},
    "inside": {"inside": 0.7, "in": 0.15, "in the middle of": 0.15},
    "around": {"around": 0.8, "surrounding": 0.2},
    "on": {"on top of": 0.6, "on": 0.4},
    "carrying": {"under": 0.4, "below": 0.3, "carrying": 0.3},
    "under": {"under": 0.7, "below": 0.15, "underneath": 0.15},
    "over": {"over": 0.5, "above": 0.5},
    "behind": {"behind": 0.75, "partly hidden by": 0.25},
    "front": {"in front of": 1},
}
# "A box with a ball ..."
BESIDE_IT: dict[str, Choice] = {
    "left": {"to its left": 0.5, "on its left": 0.5},
    "right": {"to its right": 0.5, "on its right": 0.5},
    "above": {"above it": 1},
    "below": {"below it": 1},
    "inside": {"inside it": 0.7, "in it": 0.3},
    "around": {"around it": 1},
    "on": {"on top of it": 0.6, "on it": 0.4},
    "carrying": {"under it": 1},
    "under": {"under it": 1},
    "over": {"above it": 1},
    "behind": {"behind it": 1},
    "front": {"in front of it": 1},
}
# The converse of each relation: if A is "left" of B, then B is "right" of A.
CONVERSE = {
    "left": "right",
    "above": "below",
    "inside": "around",
    "on": "carrying",
    "under": "over",
    "behind": "front",
}
CONVERSE |= {other: one for one, other in CONVERSE.items()}
# "A ball ... on top of a box"
VERBS: dict[str, Choice] = {
    "left": {"is": 0.4, "sits": 0.3, "stands": 0.3},
    "right": {"is": 0.4, "sits": 0.3, "stands": 0.3},
    "above": {"is": 0.4, "hangs": 0.3, "floats": 0.3},
    "below": {"is": 0.5, "lies": 0.3, "sits": 0.2},
    "inside": {"is": 0.5, "sits": 0.3, "lies": 0.2},
    "around": {"is": 1},
    "on": {"sits": 0.4, "stands": 0.3, "rests": 0.3},
    "carrying": {"is": 1},
    "under": {"is": 0.4, "stands": 0.3, "lies": 0.3},
    "over": {"is": 0.5, "stands": 0.5},
    "behind": {"is": 0.6, "stands": 0.4},
    "front": {"is": 0.6, "stands": 0.4},
}
# Keys: the thirds of the picture, across and down, that contain the object's center.
POSITIONS: dict[tuple[str, str], Choice] = {
    ("left", "top"): {"in the top left corner": 0.6, "at the top left": 0.4},
    ("right", "top"): {"in the top right corner": 0.6, "at the top right": 0.4},
    ("left", "bottom"): {"in the bottom left corner": 0.6, "at the bottom left": 0.4},
    ("right", "bottom"): {"in the bottom right corner": 0.6, "at the bottom right": 0.4},
    ("left", "middle"): {"on the left": 0.6, "on the left side": 0.4},
    ("right", "middle"): {"on the right": 0.6, "on the right side": 0.4},
    ("middle", "top"): {"at the top": 1},
    ("middle", "bottom"): {"at the bottom": 1},
}
OPENINGS: Choice = {
    "": 0.55,
    "there is": 0.2,
    "a picture of": 0.08,
    "an image of": 0.06,
    "a drawing of": 0.03,
    "we see": 0.04,
    "this scene shows": 0.04,
}
NUMBERS = {3: "three", 4: "four", 5: "five"}
THINGS: Choice = {"objects": 0.5, "things": 0.3, "toys": 0.2}
