-- The event log and what is written with it. Every table of a store's data has store_id first in its primary key.

CREATE TABLE node_identity (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    node_id     text NOT NULL,
    -- Tells this database from an earlier state of itself after a restore.
    incarnation uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at  timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE stores (
    store_id             uuid PRIMARY KEY,
    name                 text NOT NULL,
    home_node            text,
    default_warehouse_id uuid,
    settings             json NOT NULL DEFAULT '{}',
    created_at           timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE devices (
    store_id           uuid NOT NULL REFERENCES stores,
    device_id          text COLLATE "C" NOT NULL,
    token_hash         bytea UNIQUE,
    created_at         timestamptz(3) NOT NULL DEFAULT now(),
    revoked_at         timestamptz(3),
    last_seen_at       timestamptz(3),
    -- What the last pull delivered, so that a cursor of another node is not taken for ours.
    pull_checkpoint    timestamptz(3),
    pull_event_id      text COLLATE "C",
    acknowledged_clock jsonb NOT NULL DEFAULT '{}',
    last_push_ms       bigint,
    PRIMARY KEY (store_id, device_id)
);

CREATE TABLE events (
    store_id            uuid NOT NULL,
    event_id            varchar(255) COLLATE "C" NOT NULL,
    device_id           text COLLATE "C" NOT NULL,
    seq                 bigint,
    type                varchar(100) NOT NULL,
    version             integer NOT NULL DEFAULT 1,
    payload             json NOT NULL,
    payload_hash        bytea NOT NULL,
    sent_hash           bytea,
    delta_payload       json,
    vector_clock        jsonb,
    causal_dependencies jsonb,
    causal_digest       text,
    request_id          text,
    actor_user_id       text,
    actor_role          text,
    created_at          timestamptz(3) NOT NULL,
    received_at         timestamptz(3) NOT NULL,
    origin_node         text,
    trace_parent        text,
    PRIMARY KEY (store_id, event_id)
);
-- Pulls read a store by arrival.
CREATE INDEX events_by_arrival ON events (store_id, received_at, event_id);
-- A till asks for its last seq; a cloned till shows as one seq under two ids.
CREATE INDEX events_by_device ON events (store_id, device_id, seq DESC NULLS LAST);
ALTER TABLE events ALTER COLUMN payload SET COMPRESSION lz4;
ALTER TABLE events ALTER COLUMN delta_payload SET COMPRESSION lz4;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events is insert-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
-- Not ENABLE ALWAYS: an operator can still act with session_replication_role.
CREATE TRIGGER events_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Other contents met under a known id.
CREATE TABLE event_variants (
    store_id            uuid NOT NULL,
    event_id            varchar(255) COLLATE "C" NOT NULL,
    form_hash           bytea NOT NULL,
    device_id           text COLLATE "C" NOT NULL,
    seq                 bigint,
    type                varchar(100) NOT NULL,
    version             integer NOT NULL DEFAULT 1,
    payload             json NOT NULL,
    payload_hash        bytea NOT NULL,
    sent_hash           bytea,
    delta_payload       json,
    vector_clock        jsonb,
    causal_dependencies jsonb,
    causal_digest       text,
    request_id          text,
    actor_user_id       text,
    actor_role          text,
    created_at          timestamptz(3) NOT NULL,
    received_at         timestamptz(3) NOT NULL,
    origin_node         text,
    trace_parent        text,
    PRIMARY KEY (store_id, event_id, form_hash)
);

CREATE TABLE event_exceptions (
    store_id uuid NOT NULL,
    event_id varchar(255) COLLATE "C" NOT NULL,
    status   text NOT NULL CHECK (status IN ('failed', 'skipped', 'waiting', 'absorbed')),
    reason   text,
    since    timestamptz(3) NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    PRIMARY KEY (store_id, event_id)
);
CREATE INDEX event_exceptions_by_status ON event_exceptions (status, store_id) WHERE status IN ('failed', 'skipped');

CREATE TABLE outbox_entries (
    store_id        uuid NOT NULL,
    id              bigint GENERATED ALWAYS AS IDENTITY,
    event_id        varchar(255) COLLATE "C" NOT NULL,
    event_type      varchar(100) NOT NULL,
    target          text NOT NULL DEFAULT 'projection' CHECK (target IN ('projection', 'federation-relay')),
    peer            text NOT NULL DEFAULT '',
    -- Who works on a projection entry: the part after `projector.` in an actor's name.
    entity          text NOT NULL DEFAULT '',
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'dead', 'processed')),
    priority        smallint NOT NULL,
    error           text,
    retry_count     integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz(3),
    locked_until    timestamptz(3),
    claim_token     uuid,
    created_at      timestamptz(3) NOT NULL,
    processed_at    timestamptz(3),
    trace_parent    text,
    -- The id serves requeueing alone, which reads few rows, so the queue carries no index for it.
    PRIMARY KEY (store_id, event_id, target, peer)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_entries_to_claim ON outbox_entries (target, entity, peer, priority, created_at) WHERE status = 'pending';
CREATE INDEX outbox_entries_dead ON outbox_entries (store_id) WHERE status = 'dead';
CREATE INDEX outbox_entries_processed ON outbox_entries (processed_at) WHERE status = 'processed';

CREATE TABLE outbox_stats (
    minute   timestamptz(0) NOT NULL,
    target   text NOT NULL,
    peer     text NOT NULL DEFAULT '',
    done     bigint NOT NULL DEFAULT 0,
    failed   bigint NOT NULL DEFAULT 0,
    total_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (minute, target, peer)
);

-- An event that makes no row of its own has an exception; one that waits for its projector has an entry.
CREATE VIEW event_status AS
SELECT e.store_id, e.event_id, e.type,
       coalesce(x.status,
                CASE WHEN EXISTS (SELECT 1 FROM outbox_entries o
                                  WHERE o.store_id = e.store_id AND o.event_id = e.event_id
                                    AND o.target = 'projection' AND o.status = 'pending')
                     THEN 'pending' ELSE 'processed' END) AS projection_status,
       CASE WHEN x.status = 'failed' THEN x.reason END AS projection_error
FROM events e LEFT JOIN event_exceptions x USING (store_id, event_id);
