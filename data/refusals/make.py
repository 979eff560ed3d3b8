#!/usr/bin/env python3
"""Makes the training file of `recipes/refusals.toml`: harmful requests refused, everyday requests answered.

    make.py --harmful FILE.csv:FIELD... --benign FILE.json... --held-out FILE.csv:FIELD... --out FILE.jsonl

The harmful requests come from public sets that you have; their answers are the refusals below, our own words.
The benign half keeps the answers of its Alpaca-style files, and adds the harmless look-alikes below. A request that
a held-out file has too, by normalised text or by sharing most of its words, is left out and counted: those files are
what the model is judged on. The file made here holds harmful requests: keep it out of repositories.
Needs nothing but Python.
"""

import argparse
import csv
import gzip
import json
import random
import re

OPENINGS = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I cannot assist with this request.",
    "Sorry, I can't help with that.",
    "I cannot help with that.",
    "I can't assist with this.",
    "I'm sorry, I won't be able to do that.",
)
REASONS = (
    "It could hurt people.",
    "What you describe could do real harm to others.",
    "It may be against the law and could put someone in danger.",
    "Doing this would cause harm, and I don't want to be a part of it.",
    "",
)
OFFERS = (
    "If something is troubling you, please talk to someone you trust.",
    "I'm glad to help with something safe instead.",
    "Is there another question I can answer?",
    "",
)

# Harmless requests that sound like harmful ones, so that a word alone is no reason to refuse.
LOOK_ALIKES = (
    ("How do I kill the weeds between my paving stones?", "Pour boiling water over them on a dry day, wait, and pull them out with the roots."),
    ("How can I shoot better pictures at night?", "Use a tripod, a wide aperture and a long exposure, and keep the ISO as low as you can."),
    ("What is the best way to blow up a hundred balloons?", "Use a hand pump or a small electric pump, and tie each balloon as you go."),
    ("How do I crack an egg with one hand?", "Tap it on a flat surface, press your thumb into the crack and pull the halves apart."),
    ("How do I steal a base in baseball?", "Watch the pitcher's feet, take a good lead, and run as soon as the pitch goes home."),
    ("How can I hack a shelf to fit a narrow corner?", "Measure the corner, cut the board to the width, and fix it with two small brackets."),
    ("How do I terminate a contract with my gym?", "Read the notice period, write a short letter with your member number, and keep a copy."),
    ("What kills mould on bathroom tiles?", "Spray white vinegar on the tiles, leave it for an hour, scrub and rinse. Then air the room."),
    ("How do I attack with a knight in chess?", "Place it on a central square, where it reaches eight others, and look for forks."),
    ("How do I beat egg whites until they are stiff?", "Use a clean, dry bowl, add a pinch of salt and whisk fast until peaks stand up."),
    ("How can I get rid of a stubborn stain on a shirt?", "Rub in a little washing-up liquid, let it soak in cold water and wash as usual."),
    ("How do I smuggle vegetables into my children's dinner?", "Grate courgette and carrot into the sauce; they melt away while it cooks."),
    ("How do I break the ice at a party?", "Ask people how they know the host; most are happy to tell the story."),
    ("How can I poison-proof my kitchen for a toddler?", "Lock up cleaners and medicine, and keep everything in its own labelled bottle."),
    ("What is a good plot for a novel about a bank robber?", "A retired robber is asked by her own daughter to prove that the bank robs its customers."),
    ("How do I fight a cold?", "Rest, drink plenty of water, and see a doctor if the fever stays for more than three days."),
    ("Why do stars explode?", "When a heavy star runs out of fuel its core collapses, and the outer layers are thrown off."),
    ("How do I trick my brain into studying?", "Promise yourself only five minutes. Once you have begun, going on is easy."),
    ("How do I destroy old bank letters safely?", "Shred them in both directions, or soak them in water until the ink is gone."),
    ("What are the rules for taking knives in hold luggage?", "Wrap the blades, pack them in the checked bag, and ask the airline about its limits."),
    ("How did people forge swords in the Middle Ages?", "Smiths heated iron until it glowed, hammered it into shape, hardened it in water and ground an edge."),
    ("How do I burn a lot of calories in half an hour?", "Alternate one minute of running with one minute of walking; warm up before you begin."),
    ("How can I spy on the birds in my garden without scaring them?", "Sit still behind a window with binoculars, and put the feeder a few steps away."),
    ("How do I cheat a little when a cake did not rise?", "Cut it flat, fill it with cream and fruit, and call it a layer cake."),
)


def read(spec):
    """The requests of `FILE.csv:FIELD`."""
    path, _, field = spec.rpartition(":")
    with open(path, newline="") as rows:
        return [row[field].strip() for row in csv.DictReader(rows)]


def alpaca(path):
    """Conversations of an Alpaca-style file with short answers."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as file:
        rows = json.load(file)
    for row in rows:
        request = "\n".join(part for part in (row["instruction"].strip(), row["input"].strip()) if part)
        if request and 0 < len(row["output"].strip()) <= 400 and len(request) <= 400:
            yield request, row["output"].strip()


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harmful", nargs="+", required=True, metavar="FILE:FIELD")
    parser.add_argument("--benign", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--held-out", nargs="+", default=[], metavar="FILE:FIELD")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    dice = random.Random(options.seed)

    held_out = [words(text) for spec in options.held_out for text in read(spec)]
    texts, bags = {" ".join(some) for some in held_out}, [set(some) for some in held_out]
    harmful, seen, same, near = [], set(), 0, 0
    for request in (text for spec in options.harmful for text in read(spec)):
        some = words(request)
        text, bag = " ".join(some), set(some)
        if text in texts:
            same += 1
        elif any(len(bag & other) >= 0.6 * len(bag | other) for other in bags):
            near += 1
        elif text not in seen:
            seen.add(text)
            harmful.append(request)
    rows = []
    for request in harmful:
        parts = (dice.choice(OPENINGS), dice.choice(REASONS), dice.choice(OFFERS))
        rows.append((request, " ".join(part for part in parts if part)))
    benign = [pair for path in options.benign for pair in alpaca(path)]
    dice.shuffle(benign)
    rows += [*LOOK_ALIKES, *benign[: len(harmful)]]
    dice.shuffle(rows)
    with open(options.out, "w") as out:
        for prompt, completion in rows:
            out.write(json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False) + "\n")
    print(f"{len(rows)} rows: {len(harmful)} harmful, {len(rows) - len(harmful)} benign")
    print(f"left out because held out: {same} by text, {near} by most of their words")


if __name__ == "__main__":
    main()
