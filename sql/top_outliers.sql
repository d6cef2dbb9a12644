-- Which images lie furthest outside a bank?
-- The first question to a new dataset: look at these pictures before you trust any number.
-- param bank bank: what the images are measured against
-- param limit integer = 20: how many
-- param where predicate = true: which images, as SQL over images
SELECT dataset, split, round(score, 4) AS score, uri
FROM (SELECT *, knn_ood_score($embedding, $bank) AS score FROM images WHERE ($where) AND $embedding IS NOT NULL)
ORDER BY score DESC, uri
LIMIT $limit;
