-- What of several forms of an event counts, conflicts and their log, notifications, custody, acknowledged clocks.

-- The effective form of an event is its smallest one; the mark stands where that is not the one that came first.
ALTER TABLE event_variants ADD COLUMN effective boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX event_variants_effective ON event_variants (store_id, event_id) WHERE effective;
-- Pulls read effective forms by arrival beside the log.
CREATE INDEX event_variants_by_arrival ON event_variants (store_id, received_at, event_id) WHERE effective;

-- Every event with the form that counts.
CREATE VIEW effective_events AS
SELECT e.store_id, e.event_id,
       CASE WHEN v.effective THEN v.device_id ELSE e.device_id END AS device_id,
       CASE WHEN v.effective THEN v.seq ELSE e.seq END AS seq,
       CASE WHEN v.effective THEN v.type ELSE e.type END AS type,
       CASE WHEN v.effective THEN v.version ELSE e.version END AS version,
       CASE WHEN v.effective THEN v.payload ELSE e.payload END AS payload,
       CASE WHEN v.effective THEN v.payload_hash ELSE e.payload_hash END AS payload_hash,
       CASE WHEN v.effective THEN v.vector_clock ELSE e.vector_clock END AS vector_clock,
       CASE WHEN v.effective THEN v.causal_dependencies ELSE e.causal_dependencies END AS causal_dependencies,
       CASE WHEN v.effective THEN v.request_id ELSE e.request_id END AS request_id,
       CASE WHEN v.effective THEN v.actor_user_id ELSE e.actor_user_id END AS actor_user_id,
       CASE WHEN v.effective THEN v.actor_role ELSE e.actor_role END AS actor_role,
       CASE WHEN v.effective THEN v.created_at ELSE e.created_at END AS created_at,
       CASE WHEN v.effective THEN v.received_at ELSE e.received_at END AS received_at,
       coalesce(v.effective, false) AS is_variant
FROM events e
LEFT JOIN event_variants v ON v.store_id = e.store_id AND v.event_id = e.event_id AND v.effective;

-- The type is that of the form that counts.
CREATE OR REPLACE VIEW event_status AS
SELECT e.store_id, e.event_id,
       CASE WHEN v.effective THEN v.type ELSE e.type END AS type,
       coalesce(x.status,
                CASE WHEN EXISTS (SELECT 1 FROM outbox_entries o
                                  WHERE o.store_id = e.store_id AND o.event_id = e.event_id
                                    AND o.target = 'projection' AND o.status = 'pending')
                     THEN 'pending' ELSE 'processed' END) AS projection_status,
       CASE WHEN x.status = 'failed' THEN x.reason END AS projection_error
FROM events e LEFT JOIN event_exceptions x USING (store_id, event_id)
LEFT JOIN event_variants v ON v.store_id = e.store_id AND v.event_id = e.event_id AND v.effective;

-- Events of products, customers and sessions by their entity: kinds 14, 15 and 16 of
-- velox_protocol::payload::LinkKind. New events bring theirs; these are the ones from before.
INSERT INTO links (store_id, id, kind, event_id)
SELECT e.store_id, k.id::uuid, k.kind, e.event_id
FROM events e CROSS JOIN LATERAL (VALUES
    (14::smallint, 'product_id', ARRAY['ProductCreated', 'ProductUpdated', 'ProductDeactivated', 'PriceChanged']),
    (15::smallint, 'customer_id', ARRAY['CustomerCreated', 'CustomerUpdated']),
    (16::smallint, 'session_id', ARRAY['CashSessionOpened', 'CashSessionClosed'])) AS t(kind, key, types)
CROSS JOIN LATERAL (
    SELECT t.kind, coalesce(nullif(e.payload->>t.key, ''), e.payload->>('cash_' || t.key)) AS id) AS k
WHERE e.type = ANY(t.types) AND e.version = 1
  AND k.id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
ON CONFLICT DO NOTHING;

-- Registers name devices again and again.
ALTER TABLE products ALTER COLUMN registers SET COMPRESSION lz4;
ALTER TABLE customers ALTER COLUMN registers SET COMPRESSION lz4;
ALTER TABLE cash_sessions ALTER COLUMN registers SET COMPRESSION lz4;

-- Conflicts that a person has to decide: state, written with the rows of the entity, the same on all nodes.
CREATE TABLE open_conflicts (
    store_id        uuid NOT NULL,
    -- velox_protocol::conflict::conflict_id
    id              uuid NOT NULL,
    entity_type     text NOT NULL,
    entity_id       uuid NOT NULL,
    field           text NOT NULL,
    winner_event_id varchar(255) COLLATE "C" NOT NULL,
    -- By key: [{"event_id", "device_id", "created_at" (ms), "values": {field: value}}]
    versions        json NOT NULL,
    -- The time of the latest version.
    opened_at       timestamptz(3) NOT NULL,
    PRIMARY KEY (store_id, id)
);

-- What this node met: a log, which need not be the same on all nodes. Rows of one field of one entity have the
-- conflict's id; where it is met anew, the row of before gets an id of its own.
CREATE TABLE conflict_audit_log (
    store_id        uuid NOT NULL,
    id              uuid NOT NULL,
    entity_type     text NOT NULL,
    entity_id       uuid NOT NULL,
    field           text NOT NULL,
    winner_event_id varchar(255) COLLATE "C" NOT NULL,
    loser_event_ids text[] NOT NULL,
    strategy        text NOT NULL CHECK (strategy IN ('lww', 'awset', 'mvr')),
    winner_payload  json,
    -- In the order of loser_event_ids.
    loser_payloads  json,
    detected_at     timestamptz(3) NOT NULL DEFAULT now(),
    -- NULL: a person has to decide.
    resolved_at     timestamptz(3),
    resolved_by     text,
    PRIMARY KEY (store_id, id)
);
CREATE INDEX conflict_audit_log_by_time ON conflict_audit_log (store_id, detected_at, id);

-- The node writes events too, as a device of each store; seq is taken in the transaction of its event.
CREATE TABLE node_sequences (
    store_id  uuid NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    last_seq  bigint NOT NULL,
    PRIMARY KEY (store_id, device_id)
);

CREATE TABLE notifications (
    store_id   uuid NOT NULL,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    type       text NOT NULL,
    -- What it is about, such as a device: the same one is not told of the same type again within the hour.
    subject    text NOT NULL,
    title      text NOT NULL,
    body       text NOT NULL,
    data       json NOT NULL DEFAULT '{}',
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    read_at    timestamptz(3),
    PRIMARY KEY (store_id, id)
);
CREATE INDEX notifications_by_time ON notifications (store_id, created_at, id);
CREATE INDEX notifications_by_subject ON notifications (store_id, type, subject, created_at);

-- What was delivered to which peer and when, a row a batch.
CREATE TABLE relay_deliveries (
    store_id        uuid NOT NULL,
    id              bigint GENERATED ALWAYS AS IDENTITY,
    peer            text NOT NULL,
    sent_at         timestamptz(3) NOT NULL,
    acknowledged_at timestamptz(3),
    -- Why the events are done without having been sent.
    reason          text,
    event_ids       text[] NOT NULL,
    PRIMARY KEY (store_id, id)
);
CREATE INDEX relay_deliveries_by_event ON relay_deliveries USING gin (event_ids);

-- The program version that has last tried events whose meaning was unclear.
ALTER TABLE node_identity ADD COLUMN projected_by text;

-- Up to where acknowledged_clock has taken up the clocks of what the device was given.
ALTER TABLE devices ADD COLUMN acknowledged_checkpoint timestamptz(3);
ALTER TABLE devices ADD COLUMN acknowledged_event_id text COLLATE "C";

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'velox_runtime')
       AND has_table_privilege('velox_runtime', 'events', 'INSERT') THEN
        GRANT SELECT ON effective_events TO velox_runtime;
        GRANT SELECT, INSERT, UPDATE, DELETE
            ON open_conflicts, conflict_audit_log, node_sequences, notifications, relay_deliveries TO velox_runtime;
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO velox_runtime;
        -- Everything else of a variant stays as it came.
        GRANT UPDATE (effective) ON event_variants TO velox_runtime;
    END IF;
END $$;
