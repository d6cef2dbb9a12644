-- How are the scores of each dataset distributed?
-- To see whether a threshold falls into a valley, and how far two datasets overlap.
-- param bank bank: what the images are measured against
-- param width positive = 0.05: of a bin; scores lie between 0 and 2
-- param where predicate = true: which images, as SQL over images
SELECT dataset, round(bin * $width, 4) AS score_from, count(*) AS images,
       repeat('#', CAST(ceil(60.0 * count(*) / max(count(*)) OVER (PARTITION BY dataset)) AS INT)) AS bar
FROM (SELECT dataset, CAST(floor(knn_ood_score($embedding, $bank) / $width) AS INT) AS bin
      FROM images WHERE ($where) AND $embedding IS NOT NULL)
GROUP BY dataset, bin
ORDER BY dataset, bin;
