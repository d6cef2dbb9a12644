-- Which images lie furthest outside the bank 'demo'?
SELECT dataset, round(score, 4) AS score, regexp_replace(uri, '^.*/pictures/', '') AS picture
FROM (SELECT *, knn_ood_score(demo_shapes, 'demo') AS score FROM images WHERE split = 'test')
ORDER BY score DESC
LIMIT 10;
