-- Which images of the bank are nearest to an image?
-- The evidence behind a score: what did the bank think that this picture resembles? Of a neighbour that was deleted from
-- images since, the bank still knows the id.
-- param bank bank: where the neighbours come from
-- param id integer: the image, by its id
-- param k integer = 10: how many neighbours; its own entry in the bank is left out
SELECT round(near.near['distance'], 4) AS distance, near.near['id'] AS id, i.dataset, i.split, i.label, i.uri
FROM (SELECT unnest(knn_neighbors($embedding, $bank, $k, id)) AS near FROM images WHERE id = $id) AS near
LEFT JOIN images AS i ON i.id = near.near['id']
ORDER BY near.near['distance'], near.near['id'];
