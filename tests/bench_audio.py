"""Perceptual scores of real calls: `make bench-audio`.

Runs the demonstration several times, by both kinds of path, and prints PESQ-WB (ITU-T P.862.2, at 16 kHz) of what
each side heard against what was said. Needs the packages pesq, numpy, scipy and soundfile.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from pesq import pesq
from scipy.signal import correlate, resample_poly

RATE = 16_000
ROUNDS = 3


def load(path):
    samples, rate = soundfile.read(path)
    return resample_poly(samples, RATE, rate)


def score(said, heard):
    """PESQ of `heard` against `said`, and how much later it lies, in milliseconds."""
    length = min(len(said), len(heard))
    said, heard = said[:length], heard[:length]
    lag = int(np.argmax(correlate(heard, said, mode="full", method="fft"))) - (length - 1)
    said, heard = (said, heard[lag:]) if lag >= 0 else (said[-lag:], heard)
    length = min(len(said), len(heard))
    return pesq(RATE, said[:length], heard[:length], "wb"), lag * 1000 / RATE


def main(ahoy):
    for path in ([], ["--relay-only"]):
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                command = [ahoy, "--quiet", "demo", "--for", "14", "--out", folder, *path]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                said = load(Path(folder) / "said.wav")
                for side in ("alice", "bob"):
                    value, lag = score(said, load(Path(folder) / f"heard-by-{side}.wav"))
                    kind = "relay " if path else "direct"
                    print(f"{kind}  heard by {side:5}  PESQ-WB {value:.3f}  shifted {lag:.1f} ms", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
