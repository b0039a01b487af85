"""Draws terminal screens (`tmux capture-pane -e`), side by side, as one SVG on standard output."""

import re
import sys
import unicodedata
from html import escape

CELL_W, CELL_H, PAD, BAR = 8.4, 18, 12, 26
BACKGROUND, FOREGROUND = "#16191d", "#d8dee9"
COLOURS = ["#3b4252", "#e06c75", "#8fc07f", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9"]
BRIGHT = ["#5c6370", "#ff7a85", "#a6e08f", "#ffd58a", "#7cc4ff", "#dd8ff2", "#6fd3df", "#ffffff"]


def indexed(number):
    if number < 8:
        return COLOURS[number]
    if number < 16:
        return BRIGHT[number - 8]
    if number < 232:
        levels = [0, 95, 135, 175, 215, 255]
        number -= 16
        return "#%02x%02x%02x" % tuple(levels[number // part % 6] for part in (36, 6, 1))
    grey = 8 + 10 * (number - 232)
    return "#%02x%02x%02x" % (grey, grey, grey)


def apply(codes, style):
    codes = [int(code or 0) for code in codes]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = {}
        elif code in (1, 2, 3, 7):
            style = {**style, {1: "bold", 2: "dim", 3: "italic", 7: "reverse"}[code]: True}
        elif code == 22:
            style = {key: value for key, value in style.items() if key not in ("bold", "dim")}
        elif code in (23, 27):
            style = {**style, "italic" if code == 23 else "reverse": False}
        elif 30 <= code <= 37:
            style = {**style, "fg": COLOURS[code - 30]}
        elif 90 <= code <= 97:
            style = {**style, "fg": BRIGHT[code - 90]}
        elif code == 39:
            style = {**style, "fg": None}
        elif 40 <= code <= 47:
            style = {**style, "bg": COLOURS[code - 40]}
        elif code == 49:
            style = {**style, "bg": None}
        elif code in (38, 48) and codes[:1] == [5]:
            style = {**style, "fg" if code == 38 else "bg": indexed(codes[1])}
            codes = codes[2:]
        elif code in (38, 48) and codes[:1] == [2]:
            style = {**style, "fg" if code == 38 else "bg": "#%02x%02x%02x" % tuple(codes[1:4])}
            codes = codes[4:]
    return style


def screen(text, left, top, title):
    out = [
        f'<text x="{left}" y="{top - 8}" class="t">{escape(title)}</text>',
    ]
    style = {}
    for row, line in enumerate(text.split("\n")):
        column = 0
        for part in re.split(r"(\x1b\[[0-9;]*m)", line):
            if part.startswith("\x1b"):
                style = apply(part[2:-1].split(";"), style)
                continue
            for run in re.findall(r" +|[^ ]+", part):
                width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in run)
                x, y = left + column * CELL_W, top + row * CELL_H
                column += width
                colour = style.get("fg") or FOREGROUND
                if style.get("bg") or style.get("reverse"):
                    fill = colour if style.get("reverse") else style["bg"]
                    out.append(
                        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * CELL_W:.1f}" '
                        f'height="{CELL_H}" fill="{fill}"/>'
                    )
                    if style.get("reverse"):
                        colour = BACKGROUND
                if run.isspace():
                    continue
                extra = ""
                if style.get("bold"):
                    extra += ' font-weight="bold"'
                if style.get("italic"):
                    extra += ' font-style="italic"'
                if style.get("dim"):
                    extra += ' opacity="0.6"'
                out.append(
                    f'<text x="{x:.1f}" y="{y + 13.5:.1f}" textLength="{width * CELL_W:.1f}" '
                    f'lengthAdjust="spacingAndGlyphs" fill="{colour}"{extra}>{escape(run)}</text>'
                )
    return out


def main():
    texts = [open(name, encoding="utf-8").read().rstrip("\n") for name in sys.argv[1:]]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n") for text in texts]
    columns, rows = max(len(line) for p in plain for line in p), max(len(p) for p in plain)
    inner_w, inner_h = columns * CELL_W, rows * CELL_H
    window_w, window_h = inner_w + 2 * PAD, inner_h + BAR + PAD
    gap = 16
    width, height = len(texts) * window_w + (len(texts) - 1) * gap, window_h
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" xml:space="preserve" '
        'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">',
        "<style>.t{fill:#8a93a0;font-size:12px}</style>",
    ]
    for index, text in enumerate(texts):
        left = index * (window_w + gap)
        out.append(
            f'<rect x="{left:.1f}" y="0" width="{window_w:.1f}" height="{window_h:.1f}" rx="8" '
            f'fill="{BACKGROUND}"/>'
        )
        out += screen(text, left + PAD, BAR, "tern chat")
    out.append("</svg>")
    print("\n".join(out))


main()
