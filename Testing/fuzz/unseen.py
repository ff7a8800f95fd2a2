"""How often a CT that holds what training never saw is flagged, and how often a plain one is. By hand:

python -m Testing.fuzz.unseen --heads 20 --changed 6
"""

from __future__ import annotations

import argparse
from collections import Counter

from DiffMaCore.bundles.config import read_config
from DiffMaCore.bundles.store import resolve
from DiffMaCore.imaging.phantom import bundled_head, bundled_heads, render
from DiffMaCore.imaging.training_range import outside
from Testing.unseen import KINDS, unseen

_SEEDS = 5_000_000  # of renderings that no training draws


def main() -> None:
    """Print, for each kind, how many were flagged and by which features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo", metavar="NAME|FOLDER")
    parser.add_argument("--heads", type=int, default=20, metavar="N", help="renderings of each of the package's heads")
    parser.add_argument("--changed", type=int, default=6, metavar="N", help="of them, so many are changed in every way")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first rendering")
    args = parser.parse_args()
    known = read_config(resolve(args.model)).trained_on
    flagged: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    by: dict[str, Counter[str]] = {kind: Counter() for kind in ("plain", *KINDS)}
    for draw in range(args.first, args.first + args.heads):
        for k, name in enumerate(bundled_heads()):
            head = render(bundled_head(name), _SEEDS + 100 * draw + k, contrasts=("t1",))
            images = {"plain": head.ct_image()}
            if draw < args.first + args.changed:
                images |= {kind: unseen(kind, head, draw) for kind in KINDS}
            for kind, image in images.items():
                found = [each.feature for each in outside(image, known)]
                seen[kind] += 1
                flagged[kind] += bool(found)
                by[kind].update(found)
    for kind in by:
        print(f"{kind:28} {flagged[kind]:3} of {seen[kind]:3}  {dict(by[kind].most_common(6))}")
    changed = sum(seen[kind] for kind in KINDS)
    if changed:
        share = sum(flagged[kind] for kind in KINDS) / changed
        print(f"found {100 * share:.1f} % of {changed}; false alarms {100 * flagged['plain'] / seen['plain']:.1f} %")


if __name__ == "__main__":
    main()
