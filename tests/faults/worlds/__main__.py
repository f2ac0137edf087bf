"""`python -m tests.faults.worlds SEED [LAST]`: play one world, or all from SEED to LAST, and say what came of each."""

import sys
import time

from tests.faults.worlds.play import WorldError, play


def main() -> int:
    first, last = int(sys.argv[1]), int(sys.argv[-1])
    failed = 0
    for seed in range(first, last + 1):
        begun = time.perf_counter()
        try:
            played = play(seed)
        except WorldError as error:
            failed += 1
            print(error)
        else:
            counts = ", ".join(f"{name} {count}" for name, count in played.counts.items())
            print(
                f"seed {seed}: {played.switches} steps, {played.seconds:.0f} s in {time.perf_counter() - begun:.2f} s, "
                f"{counts}, history {played.sha256[:16]}"
            )
    return 1 if failed else 0


sys.exit(main())
