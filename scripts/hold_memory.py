#!/usr/bin/env python3
"""Hold all of a card's free memory but so much, so that a big card stands in for a small one.

    python scripts/hold_memory.py 6 [CARD]

leaves 6 GiB free on the card (0 by default), prints one line once that is so, and holds the rest until its input ends.
"""

import sys

import torch

GIB = 1 << 30


def main() -> int:
    leave = int(float(sys.argv[1]) * GIB)
    card = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    torch.cuda.init()
    with torch.cuda.device(card):
        held = torch.empty(1, dtype=torch.uint8, device="cuda")  # the context and the first block are in the reading
        free, total = torch.cuda.mem_get_info(card)
        if free < leave:
            print(f"error: only {free / GIB:.2f} GiB are free, and {leave / GIB:.2f} were to be left", file=sys.stderr)
            return 1
        held = [held, torch.empty(free - leave, dtype=torch.uint8, device="cuda")]
        free, _ = torch.cuda.mem_get_info(card)
        print(f"{free} bytes of {total} are free", flush=True)
        sys.stdin.read()
        del held
    return 0


if __name__ == "__main__":
    sys.exit(main())
