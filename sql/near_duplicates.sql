-- Which images are copies, or nearly, of an image in the bank?
-- To find test images that leaked into training data, and to thin out what is collected: an image's own entry in the
-- bank does not count.
-- param bank bank: where copies may lie
-- param within positive = 0.05: distances up to this count as nearly the same; they lie between 0 and 2
-- param where predicate = true: which images, as SQL over images
-- param limit integer = 100: how many pairs
SELECT round(near.near['distance'], 5) AS distance, near.dataset, near.split, near.uri, near.near['id'] AS copy_id,
       i.uri AS copy_of
FROM (SELECT dataset, split, uri, knn_neighbors($embedding, $bank, 1, id)[1] AS near
      FROM images
      WHERE ($where) AND $embedding IS NOT NULL AND knn_ood_score($embedding, $bank, 1, id) <= $within) AS near
LEFT JOIN images AS i ON i.id = near.near['id']
ORDER BY distance, near.uri
LIMIT $limit;
