#!/usr/bin/env python3
"""Draw docs/scores.svg out of the demo's database: test images, how their scores are distributed, and the threshold.

    make demo
    python3 docs/scores.py --demo outskirt-demo --outskirt target/debug/outskirt
"""

import argparse
import base64
import csv
import io
import subprocess
from pathlib import Path

QUERY = """SELECT dataset, uri, knn_ood_score(demo_shapes, 'demo') AS score, knn_ood_threshold('demo') AS threshold
           FROM images WHERE split = 'test' ORDER BY dataset, score, uri"""
SETS = {  # in order, and what each is
    "shapes_id": "ID: ten classes", "blends": "OOD: blended classes", "shapes": "OOD: unseen shapes",
    "textures": "OOD: textures", "noise": "OOD: noise", "inverted": "OOD: inverted",
}
BIN, LAST = 0.01, 0.64  # of a score
LEFT, WIDTH, ROW, TOP, IMAGE = 282, 560, 58, 44, 32  # in pixels
ID, OOD, INK, SOFT = "#2b6cb0", "#c05621", "#1a202c", "#718096"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--demo", type=Path, default=Path("outskirt-demo"))
    options.add_argument("--outskirt", default="target/debug/outskirt")
    options.add_argument("--out", type=Path, default=Path(__file__).with_name("scores.svg"))
    given = options.parse_args()
    command = [given.outskirt, "--db", str(given.demo / "db"), "sql", QUERY, "--format", "csv"]
    rows = list(csv.DictReader(io.StringIO(subprocess.run(command, check=True, capture_output=True, text=True).stdout)))
    threshold = float(rows[0]["threshold"])

    def across(score):
        return LEFT + WIDTH * min(score, LAST) / LAST

    bottom = TOP + ROW * len(SETS)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {bottom + 42}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">',
        f"<title>Scores of the demo's test images: knn_ood_score(demo_shapes, 'demo')</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for place, (name, what) in enumerate(SETS.items()):
        found = [row for row in rows if row["dataset"] == name]
        scores = [float(row["score"]) for row in found]
        base = TOP + ROW * (place + 1) - 6
        outside = sum(score > threshold for score in scores)
        drawn.append(f'<text x="12" y="{base - 20}" font-weight="bold">{what}</text>')
        drawn.append(f'<text x="12" y="{base - 4}" fill="{SOFT}">{100 * outside / len(scores):.1f} % of {len(scores)} outside</text>')
        for number, share in enumerate((0.25, 0.75)):  # two pictures: nearer than most, and farther
            row = found[int(share * len(found))]
            png = base64.b64encode(Path(row["uri"].removeprefix("file://")).read_bytes()).decode()
            drawn.append(f'<image x="{LEFT - 80 + 36 * number}" y="{base - IMAGE}" width="{IMAGE}" height="{IMAGE}" '
                         f'href="data:image/png;base64,{png}"><title>score {float(row["score"]):.3f}</title></image>')
        bins = [0] * (round(LAST / BIN) + 1)
        for score in scores:
            bins[min(int(score / BIN), len(bins) - 1)] += 1
        for number, count in enumerate(bins):
            if count:
                height = (ROW - 16) * count / max(bins)
                color = ID if name == "shapes_id" else OOD
                drawn.append(f'<rect x="{across(number * BIN):.1f}" y="{base - height:.1f}" width="{WIDTH * BIN / LAST - 1:.1f}" '
                             f'height="{height:.1f}" fill="{color}"/>')
        drawn.append(f'<path d="M{LEFT} {base}H{LEFT + WIDTH}" stroke="#cbd5e0"/>')
    x = across(threshold)
    drawn.append(f'<path d="M{x:.1f} {TOP - 10}V{bottom}" stroke="{INK}" stroke-dasharray="4 3"/>')
    drawn.append(f'<text x="{x + 6:.1f}" y="{TOP - 14}">threshold {threshold:.3f}: 95 % of held-out ID images lie left of it</text>')
    for tick in range(int(LAST * 10) + 1):
        drawn.append(f'<text x="{across(tick / 10):.1f}" y="{bottom + 14}" text-anchor="middle" fill="{SOFT}">{tick / 10:.1f}</text>')
    drawn.append(f'<text x="{LEFT + WIDTH / 2}" y="{bottom + 34}" text-anchor="middle">score: distance to the 10th nearest of '
                 "3,000 training images</text>")
    given.out.write_text("\n".join(drawn + ["</svg>"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
