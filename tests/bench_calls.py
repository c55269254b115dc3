"""Speech in whole calls on bad lines: `make bench-calls`.

Plays calls in virtual time (`ahoy sim`: look-up, handshake, path, sender, receiver, all as shipped) over lines that lose
packets, and prints for each line the PESQ-WB (ITU-T P.862.2, at 16 kHz) of what was heard, from 3 s in and of the first
3 s apart, and the delay from mouth to ear: means over speeches and seeds. Arguments: the program, then files of speech at
48 kHz, which are said one after the other, in another order for each speech. Needs the packages pesq, numpy, scipy and
soundfile.
"""

import concurrent.futures
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from bench_audio import RATE, align, load
from pesq import pesq

SECONDS = 28
# With three, a mean still moves by 0.2 in bursts.
SEEDS = 10
SPEECHES = 3
BEGIN = 3 * RATE
# Longer pieces are not what PESQ was made for.
PIECE = 8 * RATE
LINES = {
    "clean": [],
    "random 10 %": ["--loss", "10"],
    "random 20 %": ["--loss", "20"],
    "random 30 %": ["--loss", "30"],
    "bursts of 3, 10 %": ["--loss", "10", "--burst", "3"],
    "bursts of 3, 20 %": ["--loss", "20", "--burst", "3"],
    "bursts of 8, 10 %": ["--loss", "10", "--burst", "8"],
}


def speech(clips, turn, path):
    """Writes `SECONDS` of the clips, beginning with another one in each turn."""
    heard = [soundfile.read(clip) for clip in clips]
    assert all(rate == 48_000 for _, rate in heard), "speech at 48 kHz is needed"
    mono = [samples if samples.ndim == 1 else samples.mean(axis=1) for samples, _ in heard]
    turn %= len(mono)
    said = np.concatenate(mono[turn:] + mono[:turn])
    said = np.tile(said, 1 + SECONDS * 48_000 // len(said))[: SECONDS * 48_000]
    soundfile.write(path, said, 48_000, subtype="PCM_16")


def score(said, heard):
    """PESQ-WB; its least, 1.0, where nothing was heard, of which it cannot make anything."""
    return pesq(RATE, said, heard, "wb") if np.abs(heard).max() > 1e-4 else 1.0


def call(ahoy, folder, line, turn, seed):
    """The scores of one call and its delay in milliseconds."""
    said, heard = Path(folder) / f"said-{turn}.wav", Path(folder) / f"heard-{list(LINES).index(line)}-{turn}-{seed}.wav"
    command = [ahoy, "--quiet", "sim", "--delay", "25", "--for", str(SECONDS), "--bitrate", "32k", "--seed", str(seed)]
    command += ["--audio-in", said, "--audio-out", heard, "--json", *LINES[line]]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    original, degraded, _lag = align(load(said), load(heard))
    heard.unlink()
    pieces = range(BEGIN, len(original) - PIECE + 1, PIECE)
    later = [score(original[at : at + PIECE], degraded[at : at + PIECE]) for at in pieces]
    first = score(original[:BEGIN], degraded[:BEGIN])
    delay = report["participants"][0]["audio"]["mouth_to_ear_ms"]["p50"]
    return np.mean(later), first, delay


def main(ahoy, clips):
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for turn in range(SPEECHES):
            speech(clips, turn, Path(folder) / f"said-{turn}.wav")
        for line in LINES:
            turns = [(turn, seed) for turn in range(SPEECHES) for seed in range(1, SEEDS + 1)]
            scores = np.array(list(pool.map(lambda at: call(ahoy, folder, line, *at), turns)))
            (later, first, delay), (least, *_) = scores.mean(axis=0), scores.min(axis=0)
            scored = f"PESQ-WB {later:.2f} (least {least:.2f}), first 3 s {first:.2f}"
            print(f"{line:18} {scored}, mouth to ear {delay:.0f} ms", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
