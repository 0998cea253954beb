#!/usr/bin/env python3
"""gen_unicode.py OUTDIR - write ucd_runs.inc and ucd_forms.inc, the characters as Hugging Face
`tokenizers` sees them.

Nothing here is taken from the Unicode data of this machine where the reference can be asked: each
property of each code point is read off the reference's own answers (its Oniguruma for the patterns,
its Rust `regex` for the edges of added tokens, its normalizer for NFC), so that the tables are equal
to it and not to some version of Unicode. Python's unicodedata only says what to ask: which
characters might decompose or combine. Needs: pip install tokenizers."""
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CHARS = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
NFC, NFD = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
# Code points that DeepSeek's second pattern lists by number.
LISTED = set(map(chr, [*range(0x4E00, 0x9FA6), *range(0x3040, 0x3100)]))


def members(pattern):
    """The characters that the pattern of one character matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=False)
    found = set()
    for at in range(0, len(CHARS), 4096):
        part = CHARS[at:at + 4096]
        left = set("".join(piece for piece, _ in split.pre_tokenize_str("".join(part))))
        found.update(c for c in part if c not in left)
    return found


def word_members():
    """Those that Rust's \\w matches: behind an 'a' they stay one piece; \\s is left out."""
    whitespace, words, spaces = pre_tokenizers.Whitespace(), set(), set()
    for c in CHARS:
        pieces = [p for p, _ in whitespace.pre_tokenize_str("a" + c)]
        if pieces == ["a" + c]:
            words.add(c)
        elif pieces == ["a"]:
            spaces.add(c)
    return words, spaces


def combining_class(c):
    """Canonical combining class, 0 where the reference does not reorder the character."""
    ccc = unicodedata.combining(c)
    if not ccc:
        return 0
    other, low = ("\u0327", False) if ccc > 202 else ("\u0315", True)  # classes 202 and 232
    text = "a" + (other + c if low else c + other)
    return ccc if NFD(text) != text else 0


def forms():
    """Full decompositions, and the pairs that compose."""
    apart, pairs = {}, {}
    for c in CHARS:
        if "\uac00" <= c <= "\ud7a3":
            continue  # Hangul is arithmetic
        if NFD(c) != c:
            apart[c] = NFD(c)
        d = unicodedata.decomposition(c)
        if d and not d.startswith("<") and len(d.split()) == 2:
            a, b = (chr(int(x, 16)) for x in d.split())
            if NFC(a + b) == c:
                pairs[a, b] = c
    return apart, pairs


def write(path, lines, what):
    with open(path, "w", encoding="ascii") as f:
        f.write(f"/* {what}\n * Written by tools/gen_unicode.py from tokenizers "
                f"{tokenizers.__version__}; do not edit. */\n")
        row = ""
        for item in lines:
            if item.endswith("\n"):
                f.write(row.rstrip() + "\n" if row else "")
                f.write(item)
                row = ""
            elif len(row) + len(item) > 98:
                f.write(row.rstrip() + "\n")
                row = item
            else:
                row += item
        if row:
            f.write(row.rstrip() + "\n")


def main(out):
    general = {name: members(rf"\p{{{name}}}") for name in ("Lu", "Lt", "Ll", "Lm", "Lo", "M", "N", "P", "S")}
    space, han = members(r"\s"), members(r"\p{Han}")
    words, rust_space = word_members()
    assert space == rust_space, space ^ rust_space
    for whole, parts in (("L", ("Lu", "Lt", "Ll", "Lm", "Lo")),):
        assert members(rf"\p{{{whole}}}") == set().union(*(general[p] for p in parts))
    apart, pairs = forms()
    seconds = {b for _, b in pairs} | set(map(chr, [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]))

    kinds, props, runs = {}, {}, []
    for code in range(0x110000):
        c = chr(code)
        if 0xD800 <= code <= 0xDFFF:
            value = runs[-1][0]
        else:
            names = [n for n, s in general.items() if c in s]
            assert len(names) <= 1, (hex(code), names)
            if code < 0x80:
                kind = None  # an ASCII character is its own kind
            else:
                kind = (names[0] if names else "Other", c in space, c in han, c in LISTED, c == "\u017f")
                kinds.setdefault(kind, len(kinds))
            ccc = combining_class(c)
            first = NFD(c)[0]
            noisy = bool(ccc) or c in seconds or NFC(c) != c or first in seconds or bool(combining_class(first))
            value = (kind, c in words, noisy, ccc)
            props.setdefault(value, len(props))
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    assert len(props) <= 256 and len(kinds) <= 128

    lines = ["/* general category, white space, Han, listed, U+017F: kind 128 + n of a character that is no ASCII */\n",
             "#ifdef UCD_KINDS\n"]
    for (name, is_space, is_han, listed, long_s), _ in sorted(kinds.items(), key=lambda x: x[1]):
        lines.append(f"{{UCD_{name.upper()}, {int(is_space)}, {int(is_han)}, {int(listed)}, {int(long_s)}}},\n")
    lines += ["#endif\n", "/* kind (0: the character itself), word, noisy, combining class */\n", "#ifdef UCD_PROPS\n"]
    for (kind, word, noisy, ccc), _ in sorted(props.items(), key=lambda x: x[1]):
        lines.append(f"{{{0 if kind is None else 128 + kinds[kind]},{int(word)},{int(noisy)},{ccc}}}, ")
    lines += ["#endif\n", "/* how many characters, which property: from U+0000 to U+10FFFF */\n", "#ifdef UCD_RUNS\n"]
    lines += [f"{n},{props[value]}, " for value, n in runs]
    lines += ["#endif\n"]
    write(f"{out}/ucd_runs.inc", lines, "What a character is to a pattern, to an added token's edge, to NFC.")

    lines = ["/* U+XXXX and its full canonical decomposition, zeros behind */\n", "#ifdef UCD_APART\n"]
    for c, d in sorted(apart.items()):
        assert len(d) <= 4
        lines.append("{" + ",".join(f"{ord(x):#x}" for x in c + d) + "}, ")
    lines += ["#endif\n", "/* a pair and what it composes to, sorted */\n", "#ifdef UCD_PAIRS\n"]
    for (a, b), c in sorted(pairs.items()):
        lines.append(f"{{{ord(a):#x},{ord(b):#x},{ord(c):#x}}}, ")
    lines += ["#endif\n"]
    write(f"{out}/ucd_forms.inc", lines, "Canonical decompositions and compositions, Hangul left out.")
    print(len(kinds), "kinds", len(props), "properties", len(runs), "runs", len(apart), "apart", len(pairs), "pairs")


main(sys.argv[1] if len(sys.argv) > 1 else "moe/tokens")
