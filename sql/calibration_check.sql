-- Does the calibration of a bank hold for these images?
-- For in-distribution images that the calibration has not seen, p-values are spread evenly: of all images, the share
-- with p <= level is about the level, within twice its standard deviation, of these images and of the calibration's. A larger share
-- says that they are harder than the calibration images.
-- param bank bank: a bank that is calibrated
-- param where predicate: held-out in-distribution images, as SQL over images
SELECT level, count(*) AS images, round(avg(CASE WHEN p <= level THEN 1.0 ELSE 0.0 END), 4) AS share,
       round(2 * sqrt(level * (1 - level) * (1.0 / count(*) + 1.0 / calibrated)), 4) AS expected_within
FROM (SELECT knn_ood_pvalue($embedding, $bank) AS p FROM images WHERE ($where) AND $embedding IS NOT NULL)
CROSS JOIN (SELECT array_length(scores) AS calibrated FROM calibrations c JOIN banks b ON c.bank = b.name AND c.k = b.k
            WHERE b.name = $bank)
CROSS JOIN (VALUES (0.01), (0.05), (0.1), (0.2), (0.5)) AS levels(level)
GROUP BY level, calibrated
ORDER BY level;
