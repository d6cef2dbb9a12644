-- Does the calibration of a bank hold for these images?
-- For in-distribution images that the calibration has not seen, p-values are spread evenly: of all images, the share
-- with p <= level is about the level. A larger share says that they are harder than the calibration images.
-- param bank bank: a bank that is calibrated
-- param where predicate: held-out in-distribution images, as SQL over images
SELECT level, count(*) AS images, round(avg(CASE WHEN p <= level THEN 1.0 ELSE 0.0 END), 4) AS share,
       round(2 * sqrt(level * (1 - level) / count(*)), 4) AS expected_within
FROM (SELECT knn_ood_pvalue($embedding, $bank) AS p FROM images WHERE ($where) AND $embedding IS NOT NULL)
CROSS JOIN (VALUES (0.01), (0.05), (0.1), (0.2), (0.5)) AS levels(level)
GROUP BY level
ORDER BY level;
