-- Digests of the event log by day and bucket, from which two nodes find what each lacks (store/src/reconcile.rs).
-- They are derived: whatever writes events leaves a delta behind, and a recount mends what it did not.

-- The UTC day of an event's own time: the same on every node.
CREATE FUNCTION event_day(created_at timestamptz) RETURNS date LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (created_at AT TIME ZONE 'UTC')::date;

-- 0 to 1023: spreads the events of one day, however many they are.
CREATE FUNCTION event_bucket(event_id text) RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (('x' || left(md5(event_id), 3))::bit(12)::integer >> 2)::smallint;

-- One form of an event, SHA-256 over what velox_protocol::event::Form consists of and the event's id. All lengths
-- come first, so that no two forms are the same bytes. Texts become bytes by the escape format, where the backslash
-- alone means something else than itself: convert_to is not immutable, and no index or inlined call could be made of it.
CREATE FUNCTION event_item(event_id text, type text, payload_hash bytea, created_at timestamptz, device_id text,
    seq bigint, request_id text, vector_clock jsonb)
    RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(
        int4send(octet_length(event_id)) || int4send(octet_length(type)) || int4send(octet_length(device_id))
        || int4send(octet_length(coalesce(request_id, ''))) || int4send(octet_length(payload_hash))
        || timestamptz_send(created_at) || int8send(coalesce(seq, -1)) || payload_hash
        || decode(replace(event_id || type || device_id || coalesce(request_id, '')
                          || coalesce(vector_clock::text, '{}'), '\', '\\'), 'escape'));

-- The first (0) or second (1) 8 bytes of an item.
CREATE FUNCTION item_word(item bytea, word integer) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ('x' || encode(substring(item FROM 8 * word + 1 FOR 8), 'hex'))::bit(64)::bigint;

-- One bucket of one day is read without a scan.
CREATE INDEX events_by_bucket ON events (store_id, event_day(created_at), event_bucket(event_id));
CREATE INDEX event_variants_by_bucket ON event_variants (store_id, event_day(created_at), event_bucket(event_id));

-- Every form of every event, wherever it stands.
CREATE VIEW event_items AS
SELECT store_id, event_id, type, created_at, event_day(created_at) AS day, event_bucket(event_id) AS bucket,
       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock) AS item
FROM events
UNION ALL
SELECT store_id, event_id, type, created_at, event_day(created_at), event_bucket(event_id),
       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock)
FROM event_variants;

-- How many forms a bucket has, and the XOR of their items' words.
CREATE TABLE event_digests (
    store_id uuid NOT NULL,
    day      date NOT NULL,
    bucket   smallint NOT NULL,
    count    bigint NOT NULL,
    hash_a   bigint NOT NULL,
    hash_b   bigint NOT NULL,
    PRIMARY KEY (store_id, day, bucket)
);

-- The same of a day, all its buckets together: equal logs are told by these alone.
CREATE TABLE event_days (
    store_id uuid NOT NULL,
    day      date NOT NULL,
    count    bigint NOT NULL,
    hash_a   bigint NOT NULL,
    hash_b   bigint NOT NULL,
    PRIMARY KEY (store_id, day)
);

-- What came since the digests were folded: a row a statement, store and day, an element a bucket. Writers only ever
-- add rows here; a bucket's row they would queue for.
CREATE TABLE event_digest_deltas (
    store_id uuid NOT NULL,
    id       bigint GENERATED ALWAYS AS IDENTITY,
    day      date NOT NULL,
    buckets  smallint[] NOT NULL,
    -- Below 0: forms that were removed.
    counts   bigint[] NOT NULL,
    hash_a   bigint[] NOT NULL,
    hash_b   bigint[] NOT NULL,
    PRIMARY KEY (store_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
-- Hashes do not get smaller.
ALTER TABLE event_digest_deltas ALTER COLUMN hash_a SET STORAGE EXTERNAL, ALTER COLUMN hash_b SET STORAGE EXTERNAL;

-- The day up to which the rolling recount of a store has come.
CREATE TABLE event_recounts (
    store_id uuid PRIMARY KEY,
    day      date NOT NULL
);

-- Rows that were added or removed. The search path is that of the migration: whoever restores data may have none.
CREATE FUNCTION note_events() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO event_digest_deltas (store_id, day, buckets, counts, hash_a, hash_b)
    SELECT store_id, day, array_agg(bucket), array_agg(forms), array_agg(hash_a), array_agg(hash_b)
    FROM (SELECT store_id, day, bucket, CASE TG_OP WHEN 'DELETE' THEN -count(*) ELSE count(*) END AS forms,
                 bit_xor(item_word(item, 0)) AS hash_a, bit_xor(item_word(item, 1)) AS hash_b
          FROM (SELECT store_id, event_day(created_at) AS day, event_bucket(event_id) AS bucket,
                       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock)
                           AS item
                FROM changed
                -- Else each word would hash the form anew.
                OFFSET 0) AS forms
          GROUP BY store_id, day, bucket) AS buckets
    GROUP BY store_id, day;
    RETURN NULL;
END $$;

-- Rows that were changed. Where all forms are the same, as when another one counts now, there is nothing to note.
CREATE FUNCTION note_changed_events() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO event_digest_deltas (store_id, day, buckets, counts, hash_a, hash_b)
    SELECT store_id, day, array_agg(bucket), array_agg(forms), array_agg(hash_a), array_agg(hash_b)
    FROM (SELECT store_id, day, bucket, sum(sign)::bigint AS forms,
                 bit_xor(item_word(item, 0)) AS hash_a, bit_xor(item_word(item, 1)) AS hash_b
          FROM (SELECT store_id, event_day(created_at) AS day, event_bucket(event_id) AS bucket, sign,
                       event_item(event_id, type, payload_hash, created_at, device_id, seq, request_id, vector_clock)
                           AS item
                FROM (SELECT store_id, event_id, type, payload_hash, created_at, device_id, seq, request_id,
                             vector_clock, 1 AS sign FROM changed
                      UNION ALL
                      SELECT store_id, event_id, type, payload_hash, created_at, device_id, seq, request_id,
                             vector_clock, -1 FROM before) AS both_rows
                OFFSET 0) AS forms
          GROUP BY store_id, day, bucket
          HAVING sum(sign) <> 0 OR bit_xor(item_word(item, 0)) <> 0 OR bit_xor(item_word(item, 1)) <> 0) AS buckets
    GROUP BY store_id, day;
    RETURN NULL;
END $$;

-- Counts everything anew.
CREATE FUNCTION recount_events() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Nobody adds events or folds between the statements.
    LOCK TABLE events, event_variants, event_digest_deltas, event_digests, event_days IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM event_digest_deltas;
    DELETE FROM event_digests;
    DELETE FROM event_days;
    INSERT INTO event_digests (store_id, day, bucket, count, hash_a, hash_b)
    SELECT store_id, day, bucket, count(*), bit_xor(item_word(item, 0)), bit_xor(item_word(item, 1))
    FROM (SELECT store_id, day, bucket, item FROM event_items OFFSET 0) AS forms
    GROUP BY store_id, day, bucket;
    INSERT INTO event_days (store_id, day, count, hash_a, hash_b)
    SELECT store_id, day, sum(count), bit_xor(hash_a), bit_xor(hash_b) FROM event_digests GROUP BY store_id, day;
END $$;

CREATE FUNCTION note_emptied_events() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM recount_events();
    RETURN NULL;
END $$;

CREATE TRIGGER events_are_noted AFTER INSERT ON events
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_events();
CREATE TRIGGER removed_events_are_noted AFTER DELETE ON events
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_events();
CREATE TRIGGER changed_events_are_noted AFTER UPDATE ON events
    REFERENCING OLD TABLE AS before NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_events();
CREATE TRIGGER emptied_events_are_noted AFTER TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION note_emptied_events();
CREATE TRIGGER variants_are_noted AFTER INSERT ON event_variants
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_events();
CREATE TRIGGER removed_variants_are_noted AFTER DELETE ON event_variants
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_events();
CREATE TRIGGER changed_variants_are_noted AFTER UPDATE ON event_variants
    REFERENCING OLD TABLE AS before NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_changed_events();
CREATE TRIGGER emptied_variants_are_noted AFTER TRUNCATE ON event_variants
    FOR EACH STATEMENT EXECUTE FUNCTION note_emptied_events();
-- An operator's session_replication_role lets rows be changed, and hides nothing.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_noted;
ALTER TABLE events ENABLE ALWAYS TRIGGER removed_events_are_noted;
ALTER TABLE events ENABLE ALWAYS TRIGGER changed_events_are_noted;
ALTER TABLE events ENABLE ALWAYS TRIGGER emptied_events_are_noted;
ALTER TABLE event_variants ENABLE ALWAYS TRIGGER variants_are_noted;
ALTER TABLE event_variants ENABLE ALWAYS TRIGGER removed_variants_are_noted;
ALTER TABLE event_variants ENABLE ALWAYS TRIGGER changed_variants_are_noted;
ALTER TABLE event_variants ENABLE ALWAYS TRIGGER emptied_variants_are_noted;

SELECT recount_events();
