-- How well does a bank tell in-distribution images from each OOD dataset?
-- The table of the paper in percent, the same numbers as `outskirt evaluate`, in SQL: change the score, group by something else, join with metadata. Images that are in both `id` and `ood` are ID.
-- param bank bank: what the images are measured against
-- param id predicate: held-out in-distribution images, as SQL over images
-- param ood predicate: OOD images, as SQL over images; one line per dataset
WITH scored AS (
    SELECT dataset, coalesce(($id), false) AS is_id, knn_ood_score($embedding, $bank) AS score
    FROM images WHERE (($id) OR ($ood)) AND $embedding IS NOT NULL),
sets AS (SELECT DISTINCT dataset FROM scored WHERE NOT is_id),
metrics AS (
    SELECT sets.dataset AS ood_set, count(*) FILTER (WHERE NOT is_id) AS images,
           fpr_at_tpr(score, NOT is_id) AS fpr95, auroc(score, NOT is_id) AS auroc,
           aupr_in(score, NOT is_id) AS auin, aupr_out(score, NOT is_id) AS auout
    FROM sets JOIN scored ON scored.is_id OR scored.dataset = sets.dataset
    GROUP BY sets.dataset)
SELECT ood_set, images, round(100 * fpr95, 2) AS fpr95, round(100 * auroc, 2) AS auroc,
       round(100 * auin, 2) AS auin, round(100 * auout, 2) AS auout
FROM (SELECT 1 AS line, * FROM metrics
      UNION ALL SELECT 2, 'average', sum(images), avg(fpr95), avg(auroc), avg(auin), avg(auout) FROM metrics)
ORDER BY line, ood_set;
