-- Have images moved away from a bank, or at all, between two ingests?
-- Each line compares all images of `before` with those of `after` (what is in both is of `after`): their scores, which say whether they moved away from the bank, then their embeddings, which say whether anything changed.
-- Where nothing changed effect is 0.5 for an AUROC, which lower and upper hold with 95 % confidence, and about 0 for the others. Of many images everything is significant: look at effect before pvalue.
-- param bank bank: what the images are measured against
-- param before predicate: the earlier images, as SQL over images
-- param after predicate: the later images, as SQL over images
WITH compared AS (
    SELECT coalesce(($after), false) AS later, $embedding AS embedding, knn_ood_score($embedding, $bank) AS score
    FROM images WHERE (($before) OR ($after)) AND $embedding IS NOT NULL),
found AS (
    SELECT count(*) FILTER (WHERE NOT later) AS images_before, count(*) FILTER (WHERE later) AS images_after,
           avg(score) FILTER (WHERE NOT later) AS mean_before, avg(score) FILTER (WHERE later) AS mean_after,
           approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY score) FILTER (WHERE NOT later) AS median_before,
           approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY score) FILTER (WHERE later) AS median_after,
           approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY score) FILTER (WHERE NOT later) AS p95_before,
           approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY score) FILTER (WHERE later) AS p95_after,
           max(score) FILTER (WHERE NOT later) AS largest_before, max(score) FILTER (WHERE later) AS largest_after,
           ks_test(score, later) AS ks, auroc_interval(score, later) AS sure,
           mmd_test(embedding, later) AS mmd, classifier_two_sample_auroc(embedding, later) AS told
    FROM compared)
SELECT compared,
       round(CASE line WHEN 1 THEN images_before WHEN 2 THEN mean_before WHEN 3 THEN median_before WHEN 4 THEN p95_before
                       WHEN 5 THEN largest_before END, 4) AS before,
       round(CASE line WHEN 1 THEN images_after WHEN 2 THEN mean_after WHEN 3 THEN median_after WHEN 4 THEN p95_after
                       WHEN 5 THEN largest_after END, 4) AS after,
       round(CASE line WHEN 6 THEN ks['auroc'] WHEN 7 THEN ks['d'] WHEN 8 THEN mmd['effect_size'] WHEN 9 THEN told['auroc'] END, 4)
           AS effect,
       round(CASE line WHEN 6 THEN sure['lower'] WHEN 9 THEN told['lower'] END, 4) AS lower,
       round(CASE line WHEN 6 THEN sure['upper'] WHEN 9 THEN told['upper'] END, 4) AS upper,
       CASE line WHEN 7 THEN ks['pvalue'] WHEN 8 THEN mmd['pvalue'] WHEN 9 THEN told['pvalue'] END AS pvalue
FROM found CROSS JOIN (VALUES
    (1, 'images'), (2, 'mean score'), (3, 'median score'), (4, '95th percentile of scores'), (5, 'largest score'),
    (6, 'scores: AUROC'), (7, 'scores: Kolmogorov-Smirnov'), (8, 'embeddings: kernel (MMD)'),
    (9, 'embeddings: classifier AUROC')) AS lines(line, compared)
ORDER BY line;
