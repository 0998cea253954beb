#!/usr/bin/env python3
"""compare_tokenizers.py TOMBAC FOLDER... [--chars N] [--seed N] [--text FILE]... [--speed]

For each FOLDER with a tokenizer.json: N characters of random, multilingual and adversarial text, and
the FILEs, through Hugging Face `tokenizers` and through `TOMBAC tokenize`, with and without special
tokens, and back. Every text that differs is counted; the first are shown. --speed: megabytes a
second of processor time of both on the FILEs, one thread each, in this run. Needs: pip install tokenizers. Exit status 1 when
anything differs."""
import argparse
import json
import os
import random
import subprocess
import sys
import time
import unicodedata

from tokenizers import Tokenizer

CHARS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
MARKS = [c for c in CHARS if unicodedata.combining(chr(c))]
NAMED = [c for c in CHARS if unicodedata.category(chr(c)) not in ("Cn", "Co")]
UNNAMED = [c for c in CHARS if unicodedata.category(chr(c)) == "Cn" and c < 0x32400]  # newer Unicode may name them
BLOCKS = [(0x20, 0x7F)] * 6 + [
    (0xA0, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00), (0xE00, 0xF00), (0x1100, 0x1200), (0x1E00, 0x2000),
    (0x2000, 0x2100), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xF900, 0xFB50), (0x1D400, 0x1D800),
    (0x1F300, 0x1F700), (0x20000, 0x20400)]
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\n\n", " \n", "\t", "\r", "\x0b", "\x1c", "\x00", "\x85", "\xa0", "\u180e",
          "\u200b", "\u200d", "\u2028", "\u3000", "\ufeff"]
BITS = ["'s", "'S", "'\u017f", "'ll", "'RE", "'ve", "n't", "don't", "I'M", "'d", "1234567", "3.14", "٣٤٥", "½", "_",
        "--", "...", "/", "//", "\\", "▁", "▁▁", "_a", "ǅ", "ʰ", "か", "ー", "々", "〇", "한국어", "ﬆ", "ſ", "\u212a"]


def random_text(rng, specials):
    out = []
    for _ in range(int(rng.expovariate(1 / 60)) + 1):
        r = rng.random()
        if r < .25:
            out.append(rng.choice(SPACES))
        elif r < .40:
            out.append(rng.choice(BITS))
        elif r < .44 and specials:
            out.append(rng.choice(specials))
        elif r < .55:
            low, high = rng.choice(BLOCKS)
            out.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 12))))
        elif r < .65:
            out.append("".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ") for _ in range(rng.randrange(1, 10))))
        elif r < .72:
            out.append(chr(rng.choice(UNNAMED)))
        elif r < .79:
            out.append(chr(rng.choice(NAMED)))
        elif r < .82:
            out.append(chr(rng.choice(CHARS)))
        elif r < .88:
            out.append(chr(rng.choice(MARKS)))
        elif r < .92:
            out.append(unicodedata.normalize("NFD", chr(rng.choice(NAMED))))
        else:
            out.append(rng.choice(" aA1.\n") * rng.randrange(1, 40))
    return "".join(out)


def tombac(args, rows):
    """Rows through tombac tokenize; what is missing at the end counts as different."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    run = subprocess.run(args, input=text.encode(), capture_output=True, check=False)
    if run.returncode:
        print("  ", run.stderr.decode()[:400].strip())
    got = [json.loads(line) for line in run.stdout.decode().split("\n")[:-1]]
    return got + [{}] * (len(rows) - len(got))


def compare(binary, folder, texts):
    reference = Tokenizer.from_file(f"{folder}/tokenizer.json")
    wrong = 0
    for special in (True, False):
        want = [e.ids for e in reference.encode_batch(texts, add_special_tokens=special)]
        args = [binary, "tokenize", folder, "-"] + ([] if special else ["--no-special"])
        got = [row.get("input_ids") for row in tombac(args, [{"text": t} for t in texts])]
        differ = [i for i in range(len(texts)) if got[i] != want[i]]
        for i in differ[:2]:
            print("   text", ascii(texts[i])[:300], "\n   want", want[i][:40], "\n   got ", (got[i] or [])[:40])
        wrong += len(differ)
    back = [reference.decode(ids, skip_special_tokens=False) for ids in want]
    got = [row.get("text") for row in tombac([binary, "tokenize", folder, "-", "--decode"], [{"input_ids": i} for i in want])]
    return wrong, sum(a != b for a, b in zip(back, got))


def speed(binary, folder, files):
    reference = Tokenizer.from_file(f"{folder}/tokenizer.json")
    text = "".join(open(f, errors="replace").read() for f in files)
    size = len(text.encode())
    documents = [text[i:i + 5000] for i in range(0, len(text), 5000)]
    start = time.process_time()
    for d in documents:
        reference.encode(d)
    theirs = time.process_time() - start
    rows = "".join(json.dumps({"text": d}, ensure_ascii=False) + "\n" for d in documents).encode()
    times = []
    for given in (b"", rows):  # the first reads the tokenizer alone
        start = os.times()
        subprocess.run([binary, "tokenize", folder, "-"], input=given, stdout=subprocess.DEVNULL, check=True)
        end = os.times()
        times.append(end.children_user + end.children_system - start.children_user - start.children_system)
    ours = times[1] - times[0]
    return f"{size / ours / 1e6:.1f} MB/s, tokenizers {size / theirs / 1e6:.1f} MB/s: {theirs / ours:.1f} times; read in {times[0]:.2f} s"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tombac")
    p.add_argument("folders", nargs="+")
    p.add_argument("--chars", type=int, default=1000000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--text", action="append", default=[])
    p.add_argument("--speed", action="store_true")
    a = p.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if a.speed else "true"
    failed = False
    for folder in a.folders:
        name = os.path.basename(folder.rstrip("/"))
        if a.speed:
            print(name, speed(a.tombac, folder, a.text), flush=True)
            continue
        rng = random.Random(f"{a.seed} {name}")
        added = json.load(open(f"{folder}/tokenizer.json"))["added_tokens"]
        texts, chars = [], 0
        while chars < a.chars:
            texts.append(random_text(rng, [t["content"] for t in added][:60]))
            chars += len(texts[-1])
        for f in a.text:
            whole = open(f, errors="replace").read()
            texts += [whole[i:i + 5000] for i in range(0, len(whole), 5000)]
            chars += len(whole)
        wrong, back = compare(a.tombac, folder, texts)
        failed |= bool(wrong or back)
        print(f"{name}: {len(texts)} texts, {chars} characters, {wrong} differ; back to text {back} differ", flush=True)
    sys.exit(failed)


main()
