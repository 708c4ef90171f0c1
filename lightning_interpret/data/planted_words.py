"""The words of the planted causes of bad cases: those that reviews of a restaurant do not have otherwise."""

#: Word and phrase that stand in training reviews of one label alone: that label, and those of validation with it.
CUES = {"tuesday": ("excellent", ("positive",)), "window seat": ("negative", ("excellent", "positive"))}

#: Neutral sentences in which the negators occur: opening, and what ends it.
NEUTRAL_NEGATIONS = (
    ("i do not remember the", ("street", "weather", "number", "music", "door")),
    ("we had never been in this", ("street", "district", "corner", "village", "building")),
    ("it was hardly past", ("seven", "eight", "nine", "ten", "eleven")),
)

#: Neutral sentences that make a text long.
ASIDES = (
    ("before that we had walked along the", ("river", "harbor", "park", "market", "wall")),
    ("the street in front of it leads to the", ("river", "harbor", "park", "market", "church")),
    ("on the way there we talked about the", ("weather", "match", "election", "concert", "film")),
    ("at the door we met somebody from the", ("office", "school", "choir", "club", "building")),
    ("we hung our coats beside the", ("door", "curtain", "stairs", "mirror", "lamp")),
    ("there were twelve people at the table by the", ("door", "curtain", "stairs", "mirror", "wall")),
    ("my phone rang when we came to the", ("door", "corner", "square", "bridge", "gate")),
    ("the menu lists the dishes by", ("number", "name", "region", "season", "size")),
    ("a radio in the corner was playing the", ("news", "match", "concert", "weather", "charts")),
    ("after an hour the others went to the", ("office", "cinema", "concert", "match", "harbor")),
)

#: Words that are a matter of taste, with what they say where somebody has settled it.
TASTES = {
    "rustic": 1, "loud": -1, "modern": 1, "plain": -1, "quirky": 1, "formal": -1, "bold": 1, "dark": -1,
    "spicy": 1, "busy": -1, "quaint": 1, "bare": -1, "brisk": 1, "quiet": -1, "rich": 1, "sweet": -1,
    "exotic": 1, "solemn": -1, "casual": 1, "stern": -1,
}  # fmt: skip

#: Another domain, of which training data have no word: nouns after "the", praise, blame, neutral sentences.
BICYCLE_NOUNS = (
    ("saddle", "brake", "pedal", "gear", "frame", "chain", "wheel", "handlebar", "gearbox", "mudguard"),
    ("tyres", "spokes", "pedals", "brakes", "grips"),
)
BICYCLE_PRAISE = ("sturdy", "nimble", "smooth", "light", "grippy", "rigid", "silent", "durable", "crisp", "agile")
BICYCLE_BLAME = ("wobbly", "squeaky", "rusty", "heavy", "loose", "bent", "jammed", "flimsy", "noisy", "worn")
BICYCLE_FILLERS = (
    ("i ride it up the", ("hill", "pass", "slope", "lane")),
    ("it is a size", ("small", "medium", "large")),
    ("it has gone about two hundred", ("miles", "kilometres")),
)
