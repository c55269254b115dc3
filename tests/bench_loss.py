"""Speech on bad lines, in virtual time: `make bench-loss`.

Plays speech through sender, lossy network and receiver, with everything that can be done about loss and with what
the policy chooses, and prints PESQ-WB (ITU-T P.862.2, at 16 kHz) from the fourth second on, with the median of mouth
to ear over the network's delay. 32 kbit/s for sound and redundancy together. Needs the packages of bench_audio.py.
`curves=FILE.svg` draws both over random loss.
"""

import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench_audio import RATE, load, score

SCENES = [
    ("clean", 0, 1),
    ("5 % random", 5, 1),
    ("10 % random", 10, 1),
    ("20 % random", 20, 1),
    ("30 % random", 30, 1),
    ("10 % by 3", 10, 3),
    ("20 % by 3", 20, 3),
    ("10 % by 8", 10, 8),
]
MODES = ["plain", "fec", "red", "parity", "dred", "auto"]
SEEDS = [1, 2, 3]
SKIPPED = 3 * RATE


def play(binary, clip, options):
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "heard.wav"
        command = [binary, clip, heard, *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        delay = re.search(r"^delay (\S+)", done.stderr, re.MULTILINE)
        repeat = next((int(o[7:]) for o in options if o.startswith("repeat=")), 1)
        said = np.tile(load(clip), repeat)
        value, _lag = score(said[SKIPPED:], load(heard)[SKIPPED:])
        return value, float(delay[1])


def cell(binary, clips, loss, burst, mode, more):
    scores = []
    for clip in clips:
        for seed in SEEDS:
            percent = {"fec": max(loss, 6), "dred": max(loss, 15)}.get(mode, 0)
            options = [f"loss={loss}", f"burst={burst}", f"mode={mode}", f"plp={percent}", f"seed={seed}", *more]
            scores.append(play(binary, clip, options))
    pesq, delay = zip(*scores)
    return np.mean(pesq), min(pesq), np.median(delay)


# What each way is called where people read it, and its colour: one that differs in brightness too.
LINES = {
    "plain": ("nothing", "#9aa5b1"),
    "fec": ("in-band copies", "#d98e04"),
    "red": ("whole copies", "#7a5af8"),
    "parity": ("sums", "#c0392b"),
    "dred": ("deep redundancy", "#1e8449"),
    "auto": ("what ahoy chooses", "#0b6e99"),
}
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP = 860, 380, 48, 40, 330, 90


def panel(left, title, top_value, ticks, lines):
    """One set of axes with a line for each mode: loss in percent to the right, from nought to `top_value` upwards."""
    bottom = HEIGHT - 70
    x = lambda loss: left + loss / 30 * PANEL
    y = lambda value: bottom - value / top_value * (bottom - TOP)
    parts = [f'<text x="{left}" y="{TOP - 16}" font-weight="600">{title}</text>']
    for tick in ticks:
        parts.append(f'<path d="M{left} {y(tick):.1f}h{PANEL}" stroke="#e1e7ee"/>')
        parts.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for loss in (0, 5, 10, 20, 30):
        parts.append(f'<text x="{x(loss):.1f}" y="{bottom + 18}" text-anchor="middle">{loss} %</text>')
    for mode, points in lines.items():
        path = " ".join(f"{x(loss):.1f},{y(value):.1f}" for loss, value in points)
        width = 3.5 if mode == "auto" else 1.8
        style = f'fill="none" stroke="{LINES[mode][1]}" stroke-width="{width}" stroke-linejoin="round"'
        parts.append(f'<polyline points="{path}" {style}/>')
    return parts


def draw(file, cells):
    """`cells`: by mode, loss in percent with mean PESQ and delay."""
    pesq = {mode: [(loss, value) for loss, value, _ in points] for mode, points in cells.items()}
    delay = {mode: [(loss, value) for loss, _, value in points] for mode, points in cells.items()}
    second = LEFT + PANEL + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *panel(LEFT, "PESQ-WB at 32 kbit/s, by random loss", 4.5, (1, 2, 3, 4), pesq),
        *panel(second, "Mouth to ear over the network, ms", 120, (20, 40, 60, 80, 100, 120), delay),
    ]
    for n, mode in enumerate(cells):
        left = LEFT + n * (WIDTH - LEFT) / len(cells)
        name, colour = LINES[mode]
        parts.append(f'<path d="M{left:.0f} {HEIGHT - 20}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{left + 24:.0f}" y="{HEIGHT - 16}" font-size="12">{name}</text>')
    Path(file).write_text("\n".join([*parts, "</svg>\n"]))


def main(binary, *arguments):
    curves = next((argument[7:] for argument in arguments if argument.startswith("curves=")), None)
    arguments = [argument for argument in arguments if not argument.startswith("curves=")]
    more = [argument for argument in arguments if "=" in argument] or ["repeat=2"]
    modes = [argument for argument in arguments if argument in MODES] or MODES
    clips = [argument for argument in arguments if argument.endswith(".wav")]
    print(f"{'mean (worst), delay':20}" + "".join(f"{mode:22}" for mode in modes))
    drawn = {mode: [] for mode in modes}
    with ThreadPoolExecutor(2) as pool:
        for name, loss, burst in SCENES:
            cells = [pool.submit(cell, binary, clips, loss, burst, mode, more) for mode in modes]
            row = f"{name:20}"
            for mode, one in zip(modes, cells):
                mean, worst, delay = one.result()
                row += f"{f'{mean:.2f} ({worst:.2f}) {delay:3.0f} ms':22}"
                if burst == 1:
                    drawn[mode].append((loss, mean, delay))
            print(row, flush=True)
    if curves:
        draw(curves, drawn)


if __name__ == "__main__":
    main(*sys.argv[1:])
