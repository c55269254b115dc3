"""Perceptual scores of real calls: `make bench-audio`.

Runs the demonstration several times, by both kinds of path, and prints PESQ-WB (ITU-T P.862.2, at 16 kHz) of what
each side heard against what was said, and the score of ViSQOL's model of speech beside it where that is installed. Needs
the packages pesq, numpy, scipy and soundfile; visqol-python[lattice] for the other score.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from pesq import pesq
from scipy.signal import correlate, resample_poly

try:
    import visqol
except ImportError:
    visqol = None

RATE = 16_000
ROUNDS = 3


def load(path):
    samples, rate = soundfile.read(path)
    return resample_poly(samples, RATE, rate)


def align(said, heard, limit=RATE):
    """Both from where they say the same, as long as both last, and how much later that lies, in milliseconds.

    It is looked for no further than `limit` samples to either side: speech may repeat itself.
    """
    length = min(len(said), len(heard))
    said, heard = said[:length], heard[:length]
    likeness = correlate(heard, said, mode="full", method="fft")
    nearest = max(0, length - 1 - limit)
    lag = int(np.argmax(likeness[nearest : length + limit])) + nearest - (length - 1)
    said, heard = (said, heard[lag:]) if lag >= 0 else (said[-lag:], heard)
    length = min(len(said), len(heard))
    return said[:length], heard[:length], lag * 1000 / RATE


def score(said, heard):
    """PESQ of `heard` against `said`, and how much later it lies, in milliseconds."""
    said, heard, lag = align(said, heard)
    return pesq(RATE, said, heard, "wb"), lag


class Visqol:
    """Scores by ViSQOL, if it is there."""

    def __init__(self):
        self.api = visqol and visqol.VisqolApi()
        if self.api:
            self.api.create(mode="speech")

    def score(self, said, heard):
        if not self.api:
            return "not installed"
        said, heard, _lag = align(said, heard)
        return f"{self.api.measure_from_arrays(said, heard, RATE).moslqo:.3f}"


def main(ahoy):
    other = Visqol()
    for path in ([], ["--relay-only"]):
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                command = [ahoy, "--quiet", "demo", "--for", "14", "--out", folder, *path]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                said = load(Path(folder) / "said.wav")
                for side in ("alice", "bob"):
                    heard = load(Path(folder) / f"heard-by-{side}.wav")
                    value, lag = score(said, heard)
                    kind = "relay " if path else "direct"
                    scores = f"PESQ-WB {value:.3f}  ViSQOL {other.score(said, heard)}"
                    print(f"{kind}  heard by {side:5}  {scores}  shifted {lag:.1f} ms", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
