-- How many images of each dataset lie outside the bank 'demo', at a true-positive rate of 95 %?
SELECT dataset, split, count(*) AS images,
       count(*) FILTER (WHERE is_ood(demo_shapes, 'demo')) AS flagged
FROM images
GROUP BY dataset, split
ORDER BY flagged * 1.0 / images DESC, dataset, split;
