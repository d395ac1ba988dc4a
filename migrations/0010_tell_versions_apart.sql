-- Forms of one event that differ in their version alone are two. The items of forms of version 1 stay what they were.

CREATE FUNCTION event_item(event_id text, type text, payload_hash bytea, created_at timestamptz, device_id text,
    seq bigint, request_id text, vector_clock jsonb, version integer)
    RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(
        -- No length is negative.
        CASE version WHEN 1 THEN ''::bytea ELSE int4send(-version) END
        || int4send(octet_length(event_id)) || int4send(octet_length(type)) || int4send(octet_length(device_id))
        || int4send(octet_length(coalesce(request_id, ''))) || int4send(octet_length(payload_hash))
        || timestamptz_send(created_at) || int8send(coalesce(seq, -1)) || payload_hash
        || decode(replace(event_id || type || device_id || coalesce(request_id, '')
                          || coalesce(vector_clock::text, '{}'), '\', '\\'), 'escape'));

CREATE OR REPLACE VIEW event_items AS
SELECT store_id, event_id, type, created_at, event_day(created_at) AS day, event_bucket(event_id) AS bucket,
       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock, version) AS item
FROM events
UNION ALL
SELECT store_id, event_id, type, created_at, event_day(created_at), event_bucket(event_id),
       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock, version)
FROM event_variants;

CREATE OR REPLACE FUNCTION note_events() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO event_digest_deltas (store_id, day, buckets, counts, hash_a, hash_b)
    SELECT store_id, day, array_agg(bucket), array_agg(forms), array_agg(hash_a), array_agg(hash_b)
    FROM (SELECT store_id, day, bucket, CASE TG_OP WHEN 'DELETE' THEN -count(*) ELSE count(*) END AS forms,
                 bit_xor(item_word(item, 0)) AS hash_a, bit_xor(item_word(item, 1)) AS hash_b
          FROM (SELECT store_id, event_day(created_at) AS day, event_bucket(event_id) AS bucket,
                       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock, version)
                           AS item
                FROM changed
                -- Else each word would hash the form anew.
                OFFSET 0) AS forms
          GROUP BY store_id, day, bucket) AS buckets
    GROUP BY store_id, day;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_changed_events() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO event_digest_deltas (store_id, day, buckets, counts, hash_a, hash_b)
    SELECT store_id, day, array_agg(bucket), array_agg(forms), array_agg(hash_a), array_agg(hash_b)
    FROM (SELECT store_id, day, bucket, sum(sign)::bigint AS forms,
                 bit_xor(item_word(item, 0)) AS hash_a, bit_xor(item_word(item, 1)) AS hash_b
          FROM (SELECT store_id, event_day(created_at) AS day, event_bucket(event_id) AS bucket, sign,
                       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock, version)
                           AS item
                FROM (SELECT store_id, event_id, type, payload_hash, created_at, device_id, seq, request_id,
                             vector_clock, version, 1 AS sign FROM changed
                      UNION ALL
                      SELECT store_id, event_id, type, payload_hash, created_at, device_id, seq, request_id,
                             vector_clock, version, -1 FROM before) AS both_rows
                OFFSET 0) AS forms
          GROUP BY store_id, day, bucket
          HAVING sum(sign) <> 0 OR bit_xor(item_word(item, 0)) <> 0 OR bit_xor(item_word(item, 1)) <> 0) AS buckets
    GROUP BY store_id, day;
    RETURN NULL;
END $$;

DROP FUNCTION event_item(text, text, bytea, timestamptz, text, bigint, text, jsonb);

-- Only the items of other versions are new.
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM events WHERE version <> 1) OR EXISTS (SELECT 1 FROM event_variants WHERE version <> 1) THEN
        PERFORM recount_events();
    END IF;
END $$;
