-- How many images of each dataset and month lie outside a bank?
-- To see whether a source changes over time, or which one brings what the model has not seen.
-- param bank bank: what the images are measured against; it must be calibrated
-- param tpr number = 0.95: share of in-distribution images below the threshold
-- param where predicate = true: which images, as SQL over images
SELECT dataset, split, date_trunc('month', ingested_at) AS month, count(*) AS images,
       count(*) FILTER (WHERE outside) AS outliers,
       round(100.0 * count(*) FILTER (WHERE outside) / count(*), 1) AS percent
FROM (SELECT *, is_ood($embedding, $bank, $tpr) AS outside FROM images WHERE ($where) AND $embedding IS NOT NULL)
GROUP BY dataset, split, month
ORDER BY percent DESC, dataset, split, month;
