#!/usr/bin/env bash
# A curator's day, on pictures that outskirt draws itself: a bank, a new batch, a page to look at, copies thinned out, a few images
# to label, labels that come back, the bank brought up to date, and the page again.
#
#   examples/curation.sh [FOLDER]        FOLDER (curation) must not be there; OUTSKIRT names the program
set -euo pipefail

outskirt="${OUTSKIRT:-outskirt}"
folder="${1:-curation}"
mkdir "$folder"
folder="$(cd "$folder" && pwd)"
export OUTSKIRT_DB="$folder/shop.db"
step() { printf '\n== %s\n' "$*"; }

step "pictures: ten classes, a new batch with things that do not belong, and copies of what is known"
"$outskirt" demo --dir "$folder/demo" > "$folder/demo.txt"
pictures="$folder/demo/pictures"
incoming="$folder/incoming"
mkdir "$incoming"
for part in id/test/circle id/test/star ood/noise ood/shapes; do
    mkdir -p "$incoming/$(basename "$part")"
    find "$pictures/$part" -name '00[0-2]?.png' -exec cp {} "$incoming/$(basename "$part")/" \;
done
for name in 0001 0002 0003; do
    cp "$pictures/id/train/circle/$name.png" "$incoming/circle/again-$name.png"
done

step "ingest, bank, calibration, scores"
"$outskirt" ingest "$pictures/id/train" --dataset shop --split train --backbone demo_shapes
"$outskirt" ingest "$pictures/id/calibration" --dataset shop --split val --backbone demo_shapes
"$outskirt" ingest "$incoming" --dataset incoming --backbone demo_shapes
"$outskirt" bank create shop --backbone demo_shapes --where "split = 'train'" --k 10
"$outskirt" bank calibrate shop --where "split = 'val'"
"$outskirt" score shop --where "dataset = 'incoming'"

step "a page to look at"
"$outskirt" report --bank shop --where "dataset = 'incoming'" --out "$folder/before.html"

step "copies of what the bank has"
"$outskirt" curate dedup --where "dataset = 'incoming'" --bank shop --by content --yes

step "a few images to label: such that all that lies outside is like one of them"
"$outskirt" curate sample --n 12 --strategy diverse --bank shop \
    --where "dataset = 'incoming' AND is_ood(demo_shapes, 'shop')" --format csv > "$folder/chosen.csv"
"$outskirt" curate tag --where "id IN (SELECT id FROM '$folder/chosen.csv')" --set state=to_label --yes
"$outskirt" export --where "state = 'to_label'" --bank shop --neighbors 3 --to "$folder/review" --as label-studio

step "labels come back as a table: here the folder of each picture says what it is"
"$outskirt" sql "COPY (SELECT id, CASE WHEN uri LIKE '%/circle/%' THEN 'circle' WHEN uri LIKE '%/star/%' THEN 'star' ELSE 'junk' END AS label
                       FROM images WHERE state = 'to_label') TO '$folder/labels.csv'"
"$outskirt" sql "UPDATE images SET label = l.label, state = 'labelled' FROM '$folder/labels.csv' l WHERE images.id = l.id"
"$outskirt" curate delete --where "label = 'junk' AND state = 'labelled'" --yes
"$outskirt" curate tag --where "dataset = 'incoming' AND NOT is_ood(demo_shapes, 'shop')" --set split=train --yes

step "the bank follows, thresholds are measured again, and the page is made anew"
"$outskirt" bank refresh shop
"$outskirt" bank calibrate shop --where "split = 'val'"
"$outskirt" report --bank shop --where "dataset = 'incoming' AND split IS DISTINCT FROM 'train'" --out "$folder/after.html"
"$outskirt" history
