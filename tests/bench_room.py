"""What becomes of echo and of near speech in simulated rooms: `make bench-room`.

Plays scenes through the capture loop, by our own chain and by WebRTC's, and prints how much quieter the echo becomes
while the far side talks alone (median of 100 ms pieces, 4 to 10 s) and PESQ-WB of the near voice while both talk (from
11 s on), against what that voice is without echo and noise. Needs the packages pesq, numpy, scipy and soundfile.
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
CHAINS = ("mic", "ours", "gain", "webrtc", "webrtc-gain")
NEAR_ALONE = ("booth", "headset", "quiet-far")


def load(path):
    samples, rate = soundfile.read(path)
    return resample_poly(samples, RATE, rate)


def quieter(before, after, start, end):
    piece = RATE // 10
    gains = []
    for at in range(int(start * RATE), int(end * RATE), piece):
        power = np.sum(before[at : at + piece] ** 2)
        if power > 1e-5 * piece:
            gains.append(10 * np.log10(power / max(np.sum(after[at : at + piece] ** 2), 1e-9)))
    return float(np.median(gains)) if gains else float("nan")


def score(wanted, heard):
    lag = int(np.argmax(correlate(heard, wanted, mode="full", method="fft"))) - (len(wanted) - 1)
    lag = max(0, min(lag, RATE // 10))
    length = min(len(wanted), len(heard) - lag)
    return pesq(RATE, wanted[:length], heard[lag : lag + length], "wb")


def main(example, far, near, only=""):
    print(f"{'scene':10}" + "".join(f"{chain:>22}" for chain in CHAINS))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([example, far, near, folder, only], check=True, stdout=subprocess.DEVNULL)
        for path in sorted(Path(folder).glob("*-wanted.wav")):
            scene = path.name.removesuffix("-wanted.wav")
            said = load(path)
            microphone = load(Path(folder) / f"{scene}-mic.wav")
            start = 4 if scene in NEAR_ALONE else 11
            line = f"{scene:10}"
            for chain in CHAINS:
                heard = load(Path(folder) / f"{scene}-{chain}.wav")
                value = score(said[start * RATE :], heard[start * RATE :])
                if scene in NEAR_ALONE or chain == "mic":
                    line += f"{value:22.2f}"
                else:
                    line += f"{quieter(microphone, heard, 4, 10):14.1f} dB {value:4.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
