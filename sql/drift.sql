-- Have images moved away from a bank between two ingests?
-- auroc is the chance that an image of `after` scores above one of `before`: 0.5 is no drift.
-- param bank bank: what the images are measured against
-- param before predicate: the earlier images, as SQL over images
-- param after predicate: the later images, as SQL over images
WITH scored AS (
    SELECT ($after) AS later, knn_ood_score($embedding, $bank) AS score
    FROM images WHERE (($before) OR ($after)) AND $embedding IS NOT NULL),
drift AS (SELECT auroc(score, later) AS auroc FROM scored)
SELECT CASE WHEN later THEN 'after' ELSE 'before' END AS images, count(*) AS count, round(avg(score), 4) AS mean,
       round(approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY score), 4) AS median,
       round(approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY score), 4) AS p95,
       round(max(score), 4) AS largest, round(max(drift.auroc), 4) AS auroc
FROM scored CROSS JOIN drift
GROUP BY later
ORDER BY later;
