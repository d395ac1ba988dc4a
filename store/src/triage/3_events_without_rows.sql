WITH missing AS MATERIALIZED (
    SELECT event_id FROM event_gaps WHERE store_id = $1
), waiting AS MATERIALIZED (
    SELECT event_id, status, retry_count, error, created_at FROM outbox_entries
    WHERE store_id = $1 AND target = 'projection' AND peer = '' AND status IN ('pending', 'dead')
), suspects AS (
    SELECT event_id FROM missing
    UNION SELECT event_id FROM waiting
    UNION SELECT event_id FROM event_exceptions WHERE store_id = $1 AND status = 'failed'
)
SELECT s.event_id, e.type, e.received_at, m.event_id IS NOT NULL AS missing,
       coalesce(x.status, w.status, 'processed') AS status, coalesce(x.reason, w.error) AS error,
       x.since AS failed_since,
       -- What has come just now is on its way.
       coalesce(w.status = 'pending', false) AS pending,
       coalesce(w.status = 'pending' AND w.retry_count = 0 AND w.created_at > now() - interval '10 s', false)
           AS on_its_way
FROM suspects s JOIN effective_events e USING (event_id)
LEFT JOIN missing m USING (event_id)
LEFT JOIN waiting w USING (event_id)
LEFT JOIN event_exceptions x ON x.store_id = $1 AND x.event_id = s.event_id
WHERE e.store_id = $1
ORDER BY e.received_at, s.event_id LIMIT 100000
