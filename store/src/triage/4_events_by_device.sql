SELECT device_id, type, count(*) AS events, max(received_at) AS last_received_at
FROM effective_events
WHERE store_id = $1 AND received_at > now() - interval '30 days'
GROUP BY device_id, type ORDER BY max(received_at) DESC, device_id, type LIMIT 500
