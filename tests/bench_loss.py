"""Speech on bad lines, in virtual time: `make bench-loss`.

Plays speech through sender, lossy network and receiver, with everything that can be done about loss and with what
the policy chooses, and prints PESQ-WB (ITU-T P.862.2, at 16 kHz) from the fourth second on, with the median of mouth
to ear over the network's delay. 32 kbit/s for sound and redundancy together. Needs the packages of bench_audio.py.
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
    return f"{np.mean(pesq):.2f} ({min(pesq):.2f}) {np.median(delay):3.0f} ms"


def main(binary, *arguments):
    more = [argument for argument in arguments if "=" in argument] or ["repeat=2"]
    modes = [argument for argument in arguments if argument in MODES] or MODES
    clips = [argument for argument in arguments if argument.endswith(".wav")]
    print(f"{'mean (worst), delay':20}" + "".join(f"{mode:22}" for mode in modes))
    with ThreadPoolExecutor(2) as pool:
        for name, loss, burst in SCENES:
            cells = [pool.submit(cell, binary, clips, loss, burst, mode, more) for mode in modes]
            print(f"{name:20}" + "".join(f"{one.result():22}" for one in cells), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
